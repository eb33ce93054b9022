// Elements and words. Text goes into the page as text, never as markup.

const NS = 1e9;
const found = document.querySelector.bind(document);

/** An element with attributes (`on…` are listeners) and children. */
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const count = (n) => n.toLocaleString("en-US");

/** A duration for a person, as the command prints it. */
function seconds(value) {
  if (value < 0.1) return `${Number((value * 1000).toPrecision(3))} ms`;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 100) return `${Number(value.toPrecision(value < 10 ? 4 : 3))} s`;
  const minutes = Math.floor(value / 60);
  const two = (n) => String(n).padStart(2, "0");
  if (minutes < 60) return `${minutes} min ${two(Math.floor(value % 60))} s`;
  return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
}

/** `2026-11-21 01:49:55.821` of an ISO 8601 stamp with nanoseconds. */
const stamp = (iso) => iso.slice(0, 23).replace("T", " ");

/** Colours of the style sheet, asked for once until the scheme changes. */
const palette = new Map();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => palette.clear());

function colour(name) {
  if (!palette.has(name)) palette.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return palette.get(name);
}

/** A link to something on this page. Ids are made here, they are no input. */
const link = (id) => el("a", { href: `#${id}` }, id);
