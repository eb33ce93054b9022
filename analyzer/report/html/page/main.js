// The page: its data, its figures as they come into view, links between everything.

const data = JSON.parse(found("#data").textContent);

/** The figures, each drawn when it comes near, and the rest when nothing else is to do. */
class Figures {
  constructor(content) {
    this.content = content;
    this.drawn = new Map();
    this.queue = [];
    this.watch = new IntersectionObserver((seen) => seen.filter((s) => s.isIntersecting).forEach((s) => this.#draw(s.target)), { rootMargin: "400px" });
  }

  /** Take a place on the page for a figure. */
  place(host) {
    const content = this.content[host.dataset.figure];
    this.drawn.set(host, { timeline: new Timeline(host, content, host.dataset.finding, show), begun: false });
    this.watch.observe(host);
    this.queue.push(host);
  }

  /** A new place for the figure of a connection; null where it has none. */
  open(key, finding) {
    if (!Object.hasOwn(this.content, key)) return null;
    const host = el("figure", { class: "timeline", "data-figure": key, ...(finding ? { "data-finding": finding } : {}) });
    this.place(host);
    return host;
  }

  async #draw(host) {
    this.watch.unobserve(host);
    const figure = this.drawn.get(host);
    if (figure.begun) return figure.ready;
    figure.begun = true;
    figure.ready = figure.timeline.draw();
    return figure.ready;
  }

  /** The rest, one by one, so that a print has all of them. */
  async finish() {
    while (this.queue.length) {
      await new Promise((done) => { (window.requestIdleCallback ?? setTimeout)(done); });
      const host = this.queue.shift();
      if (host.offsetParent) await this.#draw(host);
    }
  }

  /** Those that are drawn and on the page. */
  *timelines() {
    for (const [host, figure] of this.drawn) if (host.dataset.drawn && host.isConnected) yield [host, figure.timeline];
  }
}

const figures = new Figures(data.figures);
const listings = new Map();

/** Go to what an id names: evidence, a finding, a rule, or a row of a table. False where there is no such thing. */
function show(id) {
  document.querySelectorAll(".card.found, .evidence tr.found").forEach((e) => e.classList.remove("found"));
  const target = /^[\w-]+$/.test(id) ? document.getElementById(id) : null;
  if (!target) return [...listings.values()].some((listing) => listing.reveal(id));
  const card = target.closest(".card");
  if (card) {
    card.hidden = false;
    card.querySelector("details").open = true;
    target.classList.add("found");
    const [, finding, number] = id.match(/^(F\d+)-e(\d+)$/) ?? [];
    if (number) for (const [, timeline] of figures.timelines()) timeline.point(finding, Number(number));
  }
  if (target.tagName === "DETAILS") target.open = true;
  target.scrollIntoView({ block: target.tagName === "TR" ? "center" : "start" });
  return true;
}

/** Findings by severity and words. */
function filterFindings(form) {
  const cards = [...document.querySelectorAll(".card")];
  const said = form.querySelector("output");
  const work = () => {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const levels = new Set([...form.querySelectorAll("[name=severity]:checked")].map((box) => box.value));
    for (const card of cards) card.hidden = !(levels.has(card.dataset.severity) && words.every((w) => card.textContent.toLowerCase().includes(w)));
    said.textContent = `${count(cards.filter((c) => !c.hidden).length)} of ${count(cards.length)}`;
  };
  form.addEventListener("input", work);
  form.addEventListener("submit", (e) => e.preventDefault());
  work();
}

const form = found("#finding-filters");
if (form) filterFindings(form);
for (const host of document.querySelectorAll("[data-table]")) listings.set(host.dataset.table, new Listing(host, data.tables[host.dataset.table], figures));
for (const host of document.querySelectorAll("figure[data-figure]")) figures.place(host);
addEventListener("hashchange", () => show(location.hash.slice(1)));
document.addEventListener("click", (e) => {
  // The same link twice changes no hash.
  const href = e.target.closest?.("a[href^='#']")?.getAttribute("href");
  if (href && href === location.hash) show(href.slice(1));
});
if (location.hash) show(location.hash.slice(1));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { for (const [, timeline] of figures.timelines()) timeline.draw(); });
addEventListener("beforeprint", () => { for (const [, timeline] of figures.timelines()) timeline.snapshot(); });
if (globalThis.Bokeh) Bokeh.set_log_level("warn");
figures.finish();
