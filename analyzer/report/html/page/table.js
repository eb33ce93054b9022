// Tables: sorted by their heads, filtered by words, opened row by row. A page of rows is in the document at a time.

const PAGE = 100;
/** Fewer rows than this need no filter. */
const FEW = 5;

class Listing {
  constructor(host, table, figures) {
    this.table = table;
    this.figures = figures;
    this.columns = table.columns.map(([name, title, kind, doc, detail], at) => ({ name, title, kind, doc, detail, at }));
    this.shown = this.columns.filter((c) => !c.detail && this.#filled(c));
    for (const column of this.columns.filter((c) => c.kind === "time")) column.day = this.#day(column);
    this.words = table.rows.map((row) => row.flat().filter((v) => v != null).join(" ").toLowerCase());
    this.order = table.rows.map((_, n) => n);
    this.sorted = null;
    this.pages = 1;
    this.#build(host);
    this.refresh();
  }

  /** Whether a column says anything. */
  #filled(column) {
    return this.table.rows.some((row) => row[column.at] != null && row[column.at] !== "" && row[column.at].length !== 0);
  }

  /** The day that all times of a column share; it stands in its head, not in every row. */
  #day(column) {
    const days = new Set(this.table.rows.map((row) => row[column.at]?.slice(0, 10)).filter(Boolean));
    return days.size === 1 ? [...days][0] : "";
  }

  #build(host) {
    const name = this.table.title.toLowerCase();
    this.filter = el("input", { type: "search", autocomplete: "off", placeholder: "words, all of them", oninput: () => this.#narrow() });
    this.flagged = el("input", { type: "checkbox", onchange: () => this.#narrow() });
    this.said = el("output", { "aria-live": "polite" });
    const form = el("form", { class: "filters", role: "search", "aria-label": `Filter ${name}`, onsubmit: (e) => e.preventDefault() },
      el("label", {}, "Filter ", this.filter));
    this.findings = this.columns.find((c) => c.name === "findings");
    if (this.findings && this.#filled(this.findings)) form.append(el("label", { class: "check" }, this.flagged, " with findings only"));
    form.append(this.said);
    const heads = this.shown.map((column) => el("th", { scope: "col", title: [column.doc, column.day].filter(Boolean).join(", ") },
      el("button", { type: "button", onclick: () => this.sort(column) }, column.title)));
    this.head = el("tr", {}, el("th", { scope: "col" }, el("span", { class: "hidden" }, "details")), ...heads);
    this.body = el("tbody");
    this.more = el("button", { type: "button", class: "more", onclick: () => { this.pages += 1; this.refresh(); } });
    const caption = el("caption", { class: "hidden" }, this.table.title);
    const scroll = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table of ${name}` },
      el("table", {}, caption, el("thead", {}, this.head), this.body));
    form.hidden = this.table.rows.length < FEW;
    host.replaceChildren(form, scroll, this.more);
  }

  #narrow() {
    this.pages = 1;
    this.refresh();
  }

  sort(column) {
    const down = this.sorted?.column === column && !this.sorted.down;
    this.sorted = { column, down };
    const keys = this.table.rows.map((row) => (Array.isArray(row[column.at]) ? row[column.at].join(" ") || null : row[column.at]));
    const compare = new Intl.Collator("en", { numeric: true }).compare;
    const before = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : compare(String(a), String(b)));
    this.order.sort((a, b) => {
      if (keys[a] == null || keys[b] == null) return (keys[a] == null) - (keys[b] == null) || a - b;
      return (down ? -before(keys[a], keys[b]) : before(keys[a], keys[b])) || a - b;
    });
    this.shown.forEach((c, n) => this.head.children[n + 1].setAttribute("aria-sort", c === column ? (down ? "descending" : "ascending") : "none"));
    this.#narrow();
  }

  /** The rows that the filter leaves. */
  left() {
    const wanted = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    return this.order.filter((n) => wanted.every((word) => this.words[n].includes(word))
      && (!this.flagged.checked || this.table.rows[n][this.findings.at].length));
  }

  refresh() {
    const left = this.left();
    const visible = left.slice(0, this.pages * PAGE);
    this.body.replaceChildren(...visible.map((n) => this.#row(n)));
    const all = this.table.rows.length;
    this.said.textContent = left.length < all ? `${count(left.length)} of ${count(all)}` : count(all);
    this.more.hidden = visible.length === left.length;
    this.more.textContent = `Show ${count(Math.min(PAGE, left.length - visible.length))} more of ${count(left.length - visible.length)}`;
  }

  #row(n) {
    const row = this.table.rows[n];
    const open = el("button", { type: "button", class: "open", "aria-expanded": "false", "aria-label": `Details of ${row[0]}` }, "▸");
    const tr = el("tr", { class: "row" }, el("td", {}, open), ...this.shown.map((c) => this.#cell(c, row[c.at])));
    if (/^[CF]\d+$/.test(row[0])) tr.dataset.id = row[0];
    open.addEventListener("click", () => this.#toggle(tr, open, row));
    return tr;
  }

  #cell(column, value) {
    const number = column.kind === "count" || column.kind === "seconds";
    const wide = column.name === "title" || column.name === "details";
    const td = el("td", { class: number ? "number" : wide ? "wide" : null }, ...this.#value(column, value));
    if (!number && td.textContent.length > 30) td.title = td.textContent;
    return td;
  }

  #value(column, value) {
    if (value == null) return [""];
    if (column.kind === "link") return [value].flat().flatMap((id) => [link(id), " "]);
    if (column.kind === "count") return [count(value)];
    if (column.kind === "seconds") return [seconds(value)];
    if (column.kind === "time") return [stamp(value).slice(column.day ? 11 : 0)];
    if (column.kind === "severity") return [el("span", { class: `badge ${value}` }, el("span", { class: "sign" }), value)];
    return [Array.isArray(value) ? value.join(", ") : value === true ? "yes" : value === false ? "" : String(value)];
  }

  #toggle(tr, open, row) {
    const opened = open.getAttribute("aria-expanded") === "true";
    open.setAttribute("aria-expanded", String(!opened));
    open.textContent = opened ? "▸" : "▾";
    if (opened) { tr.nextElementSibling.remove(); return; }
    const list = el("dl", { class: "notes" });
    for (const column of this.columns) {
      const value = row[column.at];
      if (value == null || value === "" || value.length === 0) continue;
      const exact = column.kind === "time" ? [value] : this.#value(column, value);
      list.append(el("dt", { title: column.doc }, column.title), el("dd", {}, ...exact));
    }
    const cell = el("td", { colspan: this.shown.length + 1 }, list);
    tr.after(el("tr", { class: "detail" }, cell));
    const figure = this.table.id === "connections" && this.figures.open(row[0], null);
    if (figure) cell.append(figure);
  }

  /** Bring the row of an id into view, opened; false where the table has none. */
  reveal(id) {
    const n = this.table.rows.findIndex((row) => row[0] === id);
    if (n < 0) return false;
    if (!this.left().includes(n)) {
      this.filter.value = "";
      this.flagged.checked = false;
    }
    this.pages = Math.max(this.pages, Math.ceil((this.left().indexOf(n) + 1) / PAGE));
    this.refresh();
    const tr = this.body.querySelector(`[data-id="${id}"]`);
    tr.classList.add("found");
    tr.querySelector(".open").click();
    tr.scrollIntoView({ block: "center" });
    tr.querySelector(".open").focus({ preventScroll: true });
    return true;
  }
}
