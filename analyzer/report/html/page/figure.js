// Timelines: a drawing, zoomed by mouse, keys or buttons, and what its marks mean.

/** Room for the names of the lanes, in pixels. */
const LEFT = 86;

/** One figure on the page: buttons, the plot, the keys of its colours. */
class Timeline {
  constructor(host, content, finding, reveal) {
    this.content = content;
    this.flags = finding ? content.findings.filter(([id]) => id === finding) : content.findings;
    this.finding = finding;
    this.reveal = reveal;
    this.cut = true;
    // A finding's figure counts as its evidence does, from the first of it.
    [this.zero, this.since] = finding && this.flags[0]?.[3].length ? [this.flags[0][3][0][0], this.flags[0][4]] : [0, content.zero];
    this.host = host;
    this.shown = el("span", { class: "shown", role: "status" });
    this.plot = el("div", { class: "plot", tabindex: "0", role: "group", "aria-roledescription": "timeline",
      "aria-label": `Timeline of ${content.title}. Arrow keys move, plus and minus zoom, 0 shows all, E the evidence. The evidence table below says the same in words.`,
      onkeydown: (e) => this.#key(e) });
    this.keys = el("ul", { class: "keys", "aria-label": "What the marks mean" });
    this.picture = el("img", { alt: `Timeline of ${content.title}` });
    host.replaceChildren(this.#tools(), this.plot, this.picture, this.keys, ...content.notes.map((n) => el("p", { class: "remark" }, n)));
  }

  #tools() {
    const button = (text, label, work) => el("button", { type: "button", "aria-label": label, title: label, onclick: work }, text);
    this.scale = button("true scale", "Draw silences at their true length", () => this.#rescale());
    this.scale.setAttribute("aria-pressed", "false");
    const tools = el("div", { class: "tools" },
      button("+", "Zoom in (+, or Ctrl and wheel, or drag across)", () => this.zoom(0.5)), button("−", "Zoom out (−)", () => this.zoom(2)),
      button("◀", "Earlier (←)", () => this.pan(-0.3)), button("▶", "Later (→)", () => this.pan(0.3)),
      button("all", "Show all (0)", () => this.show(this.axis.range)));
    if (this.flags.some(([, , , marks]) => marks.length)) tools.append(button("evidence", "Show the evidence (E)", () => this.toEvidence()));
    if (this.content.axis.length > 1) tools.append(this.scale);
    tools.append(this.shown);
    return tools;
  }

  #key(e) {
    const work = { ArrowLeft: () => this.pan(-0.2), ArrowRight: () => this.pan(0.2), "+": () => this.zoom(0.5), "=": () => this.zoom(0.5),
      "-": () => this.zoom(2), 0: () => this.show(this.axis.range), e: () => this.toEvidence() }[e.key];
    if (!work || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    work();
  }

  #rescale() {
    const [a, b] = [this.x.start, this.x.end].map((x) => this.axis.time(x));
    const whole = Math.abs(this.x.start - this.axis.range[0]) + Math.abs(this.x.end - this.axis.range[1]) < 1e-9;
    this.cut = !this.cut;
    this.scale.setAttribute("aria-pressed", String(!this.cut));
    this.draw().then(() => { if (!whole) this.show([this.axis.place(a), this.axis.place(b)]); });
  }

  // ---- what is shown

  show([from, to]) {
    const [first, last] = this.axis.range;
    const width = Math.min(Math.max(to - from, (last - first) * 1e-7), last - first);
    const start = Math.min(Math.max((from + to - width) / 2, first), last - width);
    this.x.setv({ start, end: start + width });
  }

  zoom(factor) {
    const [middle, half] = [(this.x.start + this.x.end) / 2, ((this.x.end - this.x.start) / 2) * factor];
    this.show([middle - half, middle + half]);
  }

  pan(share) {
    const step = (this.x.end - this.x.start) * share;
    this.show([this.x.start + step, this.x.end + step]);
  }

  toEvidence(around = 0.06) {
    const places = this.flags.flatMap(([, , , marks]) => marks.map(([t]) => this.axis.place(t)));
    if (!places.length) return;
    const [first, last] = [Math.min(...places), Math.max(...places)];
    const margin = (last - first) * around || (this.axis.range[1] - this.axis.range[0]) * 0.02;
    this.show([first - margin, last + margin]);
  }

  /** Mark evidence `number` of a finding, and bring it into view. */
  point(finding, number) {
    const { marks, evidence } = this.drawing;
    const at = marks.findIndex((m) => m.finding === finding && m.number === number);
    if (at < 0) return;
    const { place } = marks[at];
    if (place < this.x.start || place > this.x.end) {
      const half = (this.x.end - this.x.start) / 2;
      this.show([place - half, place + half]);
    }
    evidence.selected.indices = [at];
  }

  #moved() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.#label();
      const [a, b] = [this.x.start, this.x.end].map((x) => (this.axis.time(x) - this.zero) / NS);
      const digits = Math.min(Math.max(3 - Math.floor(Math.log10(b - a || 1)), 0), 9);
      this.shown.textContent = `${fixed(a, digits)} – ${fixed(b, digits)} s from ${stamp(this.since)} UTC`;
    });
  }

  #label() {
    const view = [this.x.start, this.x.end];
    const chosen = ticks(this.axis, view, this.#pixels(), this.zero);
    this.below.setv({ ticker: make("FixedTicker", { ticks: chosen.map(([place]) => place), minor_ticks: [] }), major_label_overrides: new Map(chosen) });
    this.drawing.fit(view, this.#pixels());
  }

  #pixels() { return Math.max(this.plot.clientWidth - LEFT - 12, 100); }

  // ---- drawing

  async draw() {
    const first = !this.axis;
    delete this.host.dataset.drawn;
    this.host.classList.toggle("dark", matchMedia("(prefers-color-scheme: dark)").matches);
    this.axis = new Axis(this.content.axis, this.cut);
    this.drawing = new Drawing(this.content, this.flags, this.axis, this.#pixels());
    this.#legend();
    const plot = this.#frame();
    this.document?.clear();
    this.plot.replaceChildren();
    const { Document } = Bokeh.require("document");
    this.document = new Document({ roots: [plot] });
    if (first && this.finding) this.#begin();
    const views = await Bokeh.embed.add_document_standalone(this.document, this.plot);
    this.view = views.get(plot);
    this.#moved();
    this.host.dataset.drawn = "yes";
  }

  /** Where most of the axis is not about the finding, begin with its evidence and what is around it. */
  #begin() {
    const whole = this.axis.range[1] - this.axis.range[0];
    this.toEvidence(0.5);
    const half = Math.max(this.x.end - this.x.start, whole * 0.35) / 2;
    const middle = (this.x.start + this.x.end) / 2;
    this.show(half * 2 > whole * 0.6 || this.content.lives.length ? this.axis.range : [middle - half, middle + half]);
  }

  /** A picture of what is drawn, which a printer scales as it likes. */
  snapshot() { this.picture.src = this.view.export().canvas.toDataURL(); }

  /** The plot: its ranges, its time axis, the names of its lanes, and what answers mouse and fingers. */
  #frame() {
    const [start, end] = this.axis.range;
    this.x = make("Range1d", { start, end, bounds: [start, end] });
    this.x.change.connect(() => this.#moved());
    const { bottom, lanes, renderers } = this.drawing;
    const y = make("Range1d", { start: bottom + 2, end: 0 });
    const middles = lanes.filter((l) => l.name).map((l) => [(l.top + l.bottom) / 2, l.name]);
    const look = { axis_line_color: null, major_tick_line_color: null, minor_tick_line_color: null, major_label_text_color: colour("ink"), major_label_text_font: "system-ui, sans-serif", major_label_text_font_size: "11px" };
    const left = make("LinearAxis", { ...look, ticker: make("FixedTicker", { ticks: middles.map(([at]) => at), minor_ticks: [] }), major_label_overrides: new Map(middles) });
    this.below = make("LinearAxis", { ...look, major_tick_line_color: colour("dim"), axis_line_color: colour("dim"), ticker: make("FixedTicker", { ticks: [], minor_ticks: [] }) });
    const plot = make("Plot", { x_range: this.x, y_range: y, height: bottom + 34, sizing_mode: "stretch_width", min_border_left: LEFT, min_border_right: 12, min_border_top: 2, min_border_bottom: 30,
      background_fill_color: null, border_fill_color: colour("page"), outline_line_color: null, toolbar_location: null, renderers, left: [left], below: [this.below], toolbar: this.#gestures() });
    return plot;
  }

  #gestures() {
    const { hovered, evidence, marks } = this.drawing;
    const hover = make("HoverTool", { renderers: hovered, tooltips: [["", "@tip"]], limit: 4, point_policy: "follow_mouse" });
    const tap = make("TapTool", { renderers: hovered });
    const tools = [hover, tap];
    const chosen = { active_inspect: hover, active_tap: tap };
    if (matchMedia("(pointer: fine)").matches) {
      // A finger that moves scrolls the page; a mouse that drags zooms, its wheel does so only with Ctrl.
      const drag = make("BoxZoomTool", { dimensions: "width" });
      const wheel = make("WheelZoomTool", { dimensions: "width", modifiers: { ctrl: true } });
      tools.push(drag, wheel);
      Object.assign(chosen, { active_drag: drag, active_scroll: wheel });
    }
    const picked = evidence?.selected;
    picked?.change.connect(() => {
      const mark = marks[picked.indices[0]];
      if (mark) this.reveal(`${mark.finding}-e${mark.number}`);
    });
    return make("Toolbar", { tools, ...chosen });
  }

  // ---- what the colours mean

  #legend() {
    const { used } = this.drawing;
    const rows = Object.values(LOOKS).filter((look) => used.has(look[4])).map(([tone, width, head, , name]) => [name, tone, head, width]);
    if (this.content.freezes.length) rows.unshift(["frozen", "freeze", "hatch", 0]);
    if (used.has("ping answered")) rows.push(["ping answered", "good", "circle", 1.5]);
    if (used.has("ping timed out")) rows.push(["ping timed out", "error", "x", 1.5]);
    if (used.has("log line of a failure")) rows.push(["log line of a failure", "error", "arrow", 0]);
    this.keys.replaceChildren(...rows.map(([name, tone, head, width]) => el("li", {}, swatch(tone, head, width, name === "retransmitted"), name)));
  }
}

/** A small picture of a mark, for the legend. */
function swatch(tone, head, width, dashed) {
  const svg = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const paint = `var(--${tone})`;
  const out = svg("svg", { viewBox: "0 0 24 16", "aria-hidden": "true" });
  if (head === "hatch") out.append(svg("rect", { x: 1, y: 2, width: 22, height: 12, fill: paint, stroke: "var(--hatch)" }));
  if (width) out.append(svg("line", { x1: 1, x2: 23, y1: 8, y2: 8, stroke: paint, "stroke-width": width, "stroke-dasharray": dashed ? "4 2" : "none" }));
  const shapes = { arrow: "8,4 16,4 12,12", square: "8,4 16,4 16,12 8,12", diamond: "12,3 17,8 12,13 7,8", hex: "9,3 15,3 18,8 15,13 9,13 6,8" };
  if (shapes[head]) out.append(svg("polygon", { points: shapes[head], fill: paint }));
  if (head === "circle") out.append(svg("circle", { cx: 12, cy: 8, r: 4, fill: paint }));
  if (head === "x") out.append(svg("path", { d: "M8 4 L16 12 M16 4 L8 12", stroke: paint, "stroke-width": 2 }));
  return out;
}
