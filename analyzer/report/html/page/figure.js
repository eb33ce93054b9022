// Timelines, drawn by BokehJS: lanes on one time axis, zoomed by mouse, fingers, keys or buttons.

const GAP = 6;
const LEFT = 86;
const HEIGHTS = { invocations: 34, calls: 34, pings: 54, states: 24, packets: 96, log: 34, life: 18 };
/** Evidence that lies close together stands in so many rows. */
const ROWS = 3;
const EVIDENCE = 18;
const FONT = "11px system-ui, sans-serif";
/** How each kind of packet looks: colour, width of its stroke, head, size of the head, and its name. */
const LOOKS = {
  ack: ["dim", 0.5, null, 0, "ACK"], data: ["data", 1, "arrow", 6, "data"], keepalive: ["dim", 1, "circle", 6, "keepalive probe"],
  ping: ["ping", 1.2, "diamond", 8, "PING"], again: ["orange", 1.3, "arrow", 7, "retransmitted"], goaway: ["purple", 1.4, "hex", 9, "GOAWAY"],
  syn: ["good", 1.3, "circle", 7, "SYN"], fin: ["purple", 1.5, "square", 7, "FIN"], rst: ["error", 1.6, "x", 9, "RST"],
};

/** Time to place on the axis and back: piecewise linear where silences are cut short, else seconds. */
class Axis {
  constructor(stretches, cut) {
    this.stretches = stretches;
    this.cut = cut;
    this.times = stretches.flatMap(([a, b]) => [a, b]);
    this.places = cut ? stretches.flatMap(([, , x, y]) => [x, y]) : this.times.map((t) => t / NS);
    const [first, last] = [this.places[0], this.places.at(-1)];
    const margin = (last - first) * 0.015 || 0.5;
    this.range = [first - margin, last + margin];
  }

  place(time) { return between(time, this.times, this.places); }

  time(place) { return between(place, this.places, this.times); }
}

/** Where `value` lies among `to`, as it lies among sorted `from`; outside at the slope of the nearest piece. */
function between(value, from, to) {
  let n = 1;
  while (n < from.length - 1 && from[n] < value) n += 1;
  const width = from[n] - from[n - 1];
  if (from.length < 2 || !width) return value <= from[n - 1] ? to[n - 1] : to[n] ?? to[0];
  const share = Math.min(Math.max((value - from[n - 1]) / width, 0), 1);
  return to[n - 1] + share * (to[n] - to[n - 1]);
}

/** Ticks of what is shown: round seconds in each stretch, else its ends; what would overlap is left out. */
function ticks(axis, [from, to], pixels, zero) {
  const scale = pixels / (to - from);
  const pieces = axis.cut ? axis.stretches : [[axis.times[0], axis.times.at(-1)]];
  const out = [];
  for (const [a, b] of pieces) {
    const start = Math.max(axis.place(a), from);
    const end = Math.min(axis.place(b), to);
    if (start > end) continue;
    const [t0, t1] = [axis.time(start), axis.time(end)].map((t) => (t - zero) / NS);
    let some = rounded(t0, t1, (end - start) * scale);
    if (some.length < 2) some = [[(a - zero) / NS, 3], [(b - zero) / NS, 3]].filter(([t]) => t >= t0 - 1e-9 && t <= t1 + 1e-9);
    for (const [t, digits] of some) {
      const label = fixed(t, digits);
      const place = axis.place(t * NS + zero);
      const last = out.at(-1);
      if (!last || (place - last[0]) * scale > 4.2 * (label.length + last[1].length) + 8) out.push([place, label]);
    }
  }
  return out;
}

/** A number with so many decimals, a true minus, and no negative zero. */
const fixed = (value, digits) => value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "−");

function rounded(t0, t1, pixels) {
  if (t1 <= t0 || pixels < 60) return [];
  const least = ((t1 - t0) * 75) / pixels;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= least);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const out = [];
  for (let n = Math.ceil(t0 / step - 1e-6); n * step <= t1 + step * 1e-6 && out.length < 200; n += 1) out.push([n * step, digits]);
  return out;
}

const measure = (() => {
  const context = document.createElement("canvas").getContext("2d");
  context.font = FONT;
  return (text) => context.measureText(text).width;
})();

/** One figure on the page: buttons, the plot, the keys of its colours. */
class Timeline {
  constructor(host, content, finding, reveal) {
    this.content = content;
    this.flags = finding ? content.findings.filter(([id]) => id === finding) : content.findings;
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
    const at = this.marks?.findIndex((m) => m.finding === finding && m.number === number) ?? -1;
    if (at < 0) return;
    const { place } = this.marks[at];
    if (place < this.x.start || place > this.x.end) {
      const half = (this.x.end - this.x.start) / 2;
      this.show([place - half, place + half]);
    }
    this.sources.evidence.selected.indices = [at];
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
    const pixels = this.#pixels();
    const view = [this.x.start, this.x.end];
    const chosen = ticks(this.axis, view, pixels, this.zero);
    this.below.setv({ ticker: make("FixedTicker", { ticks: chosen.map(([place]) => place), minor_ticks: [] }), major_label_overrides: new Map(chosen) });
    const labels = [...this.labels];
    if (this.marks) {
      const y = stacked(this.marks, view, pixels).map((row) => this.evidenceTop + row * EVIDENCE);
      const { evidence } = this.sources;
      evidence.data = { ...evidence.data, y };
      this.marks.forEach((m, n) => labels.push(this.#number(m, y[n])));
    }
    this.sources.labels.data = fitted(labels, view, pixels);
  }

  // ---- drawing

  async draw() {
    const first = !this.axis && this.zero;
    delete this.host.dataset.drawn;
    this.axis = new Axis(this.content.axis, this.cut);
    this.host.classList.toggle("dark", matchMedia("(prefers-color-scheme: dark)").matches);
    this.sources = {};
    this.labels = [];
    this.renderers = [];
    this.hovered = [];
    this.used = new Set();
    this.#lay();
    this.#draw();
    this.#legend();
    const plot = this.#frame();
    this.document?.clear();
    this.plot.replaceChildren();
    const { Document } = Bokeh.require("document");
    this.document = new Document({ roots: [plot] });
    if (first) this.#begin();
    const views = await Bokeh.embed.add_document_standalone(this.document, this.plot);
    this.view = views.get(plot);
    this.#moved();
    this.host.dataset.drawn = "yes";
  }

  /** Where most of the axis is not about the finding, begin with its evidence. */
  #begin() {
    this.toEvidence(0.5);
    if (this.x.end - this.x.start > (this.axis.range[1] - this.axis.range[0]) * 0.6) this.show(this.axis.range);
  }

  /** A picture of what is drawn, which a printer scales as it likes. */
  snapshot() { this.picture.src = this.view.export().canvas.toDataURL(); }

  /** The plot: its ranges, its time axis, the names of its lanes, and what answers mouse and fingers. */
  #frame() {
    const [start, end] = this.axis.range;
    this.x = make("Range1d", { start, end, bounds: [start, end] });
    this.x.change.connect(() => this.#moved());
    const y = make("Range1d", { start: this.bottom + 2, end: 0 });
    const middles = this.lanes.filter((l) => l.name).map((l) => [(l.top + l.bottom) / 2, l.name]);
    const look = { axis_line_color: null, major_tick_line_color: null, minor_tick_line_color: null, major_label_text_color: colour("ink"), major_label_text_font: "system-ui, sans-serif", major_label_text_font_size: "11px" };
    const left = make("LinearAxis", { ...look, ticker: make("FixedTicker", { ticks: middles.map(([at]) => at), minor_ticks: [] }), major_label_overrides: new Map(middles) });
    this.below = make("LinearAxis", { ...look, major_tick_line_color: colour("dim"), axis_line_color: colour("dim"), ticker: make("FixedTicker", { ticks: [], minor_ticks: [] }) });
    const plot = make("Plot", { x_range: this.x, y_range: y, height: this.bottom + 34, sizing_mode: "stretch_width", min_border_left: LEFT, min_border_right: 12, min_border_top: 2, min_border_bottom: 30,
      background_fill_color: null, border_fill_color: colour("page"), outline_line_color: null, toolbar_location: null, renderers: this.renderers, left: [left], below: [this.below], toolbar: this.#gestures() });
    return plot;
  }

  #gestures() {
    const hover = make("HoverTool", { renderers: this.hovered, tooltips: [["", "@tip"]], limit: 4, point_policy: "follow_mouse" });
    const tap = make("TapTool", { renderers: this.hovered });
    const tools = [hover, tap];
    const chosen = { active_inspect: hover, active_tap: tap };
    if (matchMedia("(pointer: fine)").matches) {
      // A finger that moves scrolls the page; a mouse that drags zooms, its wheel does so only with Ctrl.
      const drag = make("BoxZoomTool", { dimensions: "width" });
      const wheel = make("WheelZoomTool", { dimensions: "width", modifiers: { ctrl: true } });
      tools.push(drag, wheel);
      Object.assign(chosen, { active_drag: drag, active_scroll: wheel });
    }
    const picked = this.sources.evidence?.selected;
    picked?.change.connect(() => {
      const mark = this.marks[picked.indices[0]];
      if (mark) this.reveal(`${mark.finding}-e${mark.number}`);
    });
    return make("Toolbar", { tools, ...chosen });
  }

  // ---- what the colours mean

  #legend() {
    const rows = Object.values(LOOKS).filter((look) => this.used.has(look[4])).map(([tone, width, head, , name]) => [name, tone, head, width]);
    if (this.content.freezes.length) rows.unshift(["frozen", "freeze", "hatch", 0]);
    if (this.used.has("ping answered")) rows.push(["ping answered", "good", "circle", 1.5]);
    if (this.used.has("ping timed out")) rows.push(["ping timed out", "error", "x", 1.5]);
    if (this.used.has("log line of a failure")) rows.push(["log line of a failure", "error", "arrow", 0]);
    this.keys.replaceChildren(...rows.map(([name, tone, head, width]) => el("li", {}, swatch(tone, head, width, name === "retransmitted"), name)));
  }

  /** Lanes from the top: those that have something to show. */
  #lay() {
    const { content } = this;
    this.lanes = [];
    let y = content.axis.length > 1 && this.cut ? 18 : 4;
    const add = (name, size, draw) => {
      this.lanes.push({ name, top: y, bottom: y + size, draw });
      y += size + GAP;
    };
    if (content.invocations.length) add("invocations", HEIGHTS.invocations, this.#invocations);
    if (content.calls.length) add("calls", HEIGHTS.calls, this.#calls);
    if (content.pings.length) add("pings", HEIGHTS.pings, this.#pings);
    for (const track of content.tracks) {
      const of = content.tracks.length > 1 ? `${track.name} ` : "";
      if (track.client.length) add(`${of}client`, HEIGHTS.states, this.#states("client", track));
      if (track.packets.length) add("", HEIGHTS.packets, this.#packets(track));
      if (track.server.length) add(`${of}server`, HEIGHTS.states, this.#states("server", track));
    }
    if (content.lives.length) add("connections", HEIGHTS.life * content.lives.length, this.#lives);
    if (content.log.length) add("log", HEIGHTS.log, this.#log);
    const marked = this.flags.some(([, , , marks]) => marks.length);
    if (marked) add("evidence", this.#evidenceRows() * EVIDENCE + 6, this.#evidence);
    this.bottom = y - GAP;
  }

  #draw() {
    const { content, axis } = this;
    const [first, last] = axis.range;
    const wide = last - first;
    const { lanes } = this;
    this.#glyph("Quad", { left: lanes.map(() => first - wide), right: lanes.map(() => last + wide), top: lanes.map((l) => l.top), bottom: lanes.map((l) => l.bottom) },
      { fill_color: colour("lane"), line_color: null });
    const x = (t) => axis.place(t);
    this.#bars("freeze", content.freezes.map(([a, b, length]) => [x(a), x(b), 0, this.bottom, `frozen ${length}`]),
      { fill_color: colour("freeze"), fill_alpha: 0.8, line_color: null, hatch_pattern: "right_diagonal_line", hatch_color: colour("hatch"), hatch_scale: 8, hatch_weight: 1 });
    for (const lane of lanes) lane.draw.call(this, lane.top, lane.bottom, x);
    if (this.cut) this.#breaks();
    this.sources.labels = make("ColumnDataSource", { data: fitted([], [0, 1], 1) });
    this.#render("Text", this.sources.labels, { x: field("x"), y: field("y"), text: field("text"), text_color: field("color"), text_align: field("align"),
      text_baseline: "middle", text_font: "system-ui, sans-serif", text_font_size: "11px", background_fill_color: field("ground"), background_fill_alpha: 0.8 });
  }

  #invocations(top, bottom, x) {
    const { invocations, freezes } = this.content;
    this.#bars("invocations", invocations.map(([a, b, , , text]) => [x(a), x(b), bottom - 15, bottom - 2, text]),
      { fill_color: invocations.map(([, , bad]) => colour(bad ? "error" : "invocation")), line_color: colour("lane") });
    for (const [a, , bad, label] of invocations) this.#text(x(a), top + 8, label, { rank: bad ? 0 : 2, color: bad ? "error" : "ink" });
    for (const [a, b, length] of freezes) this.#text((x(a) + x(b)) / 2, bottom - 8, `frozen ${length}`, { within: x(b) - x(a), align: "center", rank: 1 });
  }

  #pings(top, bottom, x) {
    const base = bottom - 8;
    const pings = this.content.pings.map(([sent, end, fate, text]) => ({ a: x(sent), b: x(end), fate, text }));
    const tone = { acked: colour("good"), timeout: colour("error"), open: colour("dim") };
    const arcs = pings.filter((p) => p.fate !== "open");
    const high = base - 34;
    this.#glyph("Bezier", { x0: arcs.map((p) => p.a), x1: arcs.map((p) => p.b), cx0: arcs.map((p) => p.a), cx1: arcs.map((p) => p.b),
      y0: arcs.map(() => base), y1: arcs.map(() => base), cy0: arcs.map(() => high), cy1: arcs.map(() => high), line_color: arcs.map((p) => tone[p.fate]) }, { line_width: 1.6 });
    this.#dots("pings", pings.map((p) => [p.a, base, "circle", 5, colour("ink"), p.text]));
    this.#dots("answers", arcs.map((p) => [p.b, base, p.fate === "acked" ? "circle" : "x", p.fate === "acked" ? 5 : 9, tone[p.fate], p.text]));
    for (const p of pings.filter((q) => q.fate === "timeout")) this.#text((p.a + p.b) / 2, top + 6, p.text, { align: "center", color: "error" });
    for (const p of arcs) this.used.add(p.fate === "acked" ? "ping answered" : "ping timed out");
  }

  #calls(top, bottom, x) {
    const calls = this.content.calls.map(([a, b, failed, label, text]) => ({ a: x(a), b: x(b), failed, label, text }));
    this.#bars("calls", calls.map((c) => [c.a, c.b, bottom - 13, bottom - 4, c.text]),
      { fill_color: calls.map((c) => colour(c.failed ? "error" : "good")), line_color: calls.map((c) => colour(c.failed ? "error" : "good")) });
    for (const c of calls.filter((one) => one.failed)) this.#text(c.a, top + 8, c.label, { rank: 1, color: "error" });
  }

  #states = (side, track) => (top, bottom, x) => {
    const runs = track[side].map(([a, b, state]) => [state, x(a), x(b), `${side}: ${state} for ${seconds((b - a) / NS)}`]);
    this.#bars(`${side} ${track.name}`, runs.map(([, a, b, text]) => [a, b, top + 2, bottom - 2, text]),
      { fill_color: runs.map(([state]) => colour(`state-${state}`)), line_color: colour("page"), line_width: 0.5 });
    for (const [state, a, b] of runs) this.#text((a + b) / 2, (top + bottom) / 2, state, { align: "center", color: `on-state-${state}`, span: [a, b] });
  };

  /** Strokes between the client's line and the server's, the head at the receiver; a lost one ends half way, one made on the way begins there. */
  #packets = (track) => (top, bottom, x) => {
    const [upper, lower] = [top + 20, bottom - 20];
    const half = (upper + lower) / 2;
    const [first, last] = this.axis.range;
    this.#glyph("Segment", { x0: [first, first], x1: [last, last], y0: [upper, lower], y1: [upper, lower] }, { line_color: colour("dim") });
    const packets = track.packets.map(([near, far, down, kind, fate, label, text]) => {
      const [from, to] = down ? [upper, lower] : [lower, upper];
      const [start, end] = down ? [near, far] : [far, near];
      return { x0: x(start), x1: x(end), y0: fate === 2 ? half : from, y1: fate === 1 ? half : to, down, kind, lost: fate === 1, label, text, look: LOOKS[kind] };
    });
    const each = (pick) => packets.map(pick);
    this.#glyph("Segment", { x0: each((p) => p.x0), x1: each((p) => p.x1), y0: each((p) => p.y0), y1: each((p) => p.y1), tip: each((p) => p.text) },
      { line_color: each((p) => colour(p.look[0])), line_width: each((p) => p.look[1]), line_dash: field("dash") }, `packets ${track.name}`, null, { dash: each((p) => (p.lost || p.kind === "again" ? [4, 2] : [])) });
    const headed = packets.filter((p) => p.look[2] || p.lost);
    this.#dots(`heads ${track.name}`, headed.map((p) => {
      const arrow = p.down ? "inverted_triangle" : "triangle";
      const back = p.lost ? 0 : p.down ? -4 : 4;
      return [p.x1, p.y1 + back, p.lost ? "x" : p.look[2] === "arrow" ? arrow : p.look[2], p.look[3] || 6, colour(p.lost ? "error" : p.look[0]), p.text];
    }));
    for (const p of headed) {
      if ((p.kind === "data" || p.kind === "keepalive") && !p.lost) continue;
      const rank = ["rst", "fin", "goaway", "syn", "ping"].indexOf(p.kind);
      const words = p.label + (p.kind === "again" ? " again" : "") + (p.lost ? " lost" : "");
      this.#text(p.x0, p.down ? upper - 11 : lower + 11, words, { align: "center", most: 160, rank: rank < 0 ? 5 : rank, color: p.kind === "rst" || p.lost ? "error" : "ink" });
    }
    for (const p of packets) this.used.add(p.look[4]);
  };

  #log(top, bottom, x) {
    const lines = this.content.log;
    const plain = lines.filter(([, failed]) => !failed);
    this.#glyph("Segment", { x0: plain.map(([t]) => x(t)), x1: plain.map(([t]) => x(t)), y0: plain.map(() => bottom - 16), y1: plain.map(() => bottom - 4), tip: plain.map((l) => l[3]) },
      { line_color: colour("dim") }, "log");
    const bad = lines.filter(([, failed]) => failed);
    this.#dots("failures", bad.map(([t, , , text]) => [x(t), bottom - 10, "inverted_triangle", 9, colour("error"), text]));
    for (const [t, , words] of bad) this.#text(x(t), top + 7, words, { most: 260, color: "error" });
    if (bad.length) this.used.add("log line of a failure");
  }

  #lives(top, bottom, x) {
    const lives = this.content.lives.map(([a, b, bad, label, text], n) => ({ a: x(a), b: x(b), bad, label, text, y: top + n * HEIGHTS.life }));
    this.#bars("lives", lives.map((l) => [l.a, l.b, l.y + 4, l.y + HEIGHTS.life - 4, l.text]),
      { fill_color: lives.map((l) => colour(l.bad ? "error" : "invocation")), line_color: colour("ink"), line_width: 0.5 });
    for (const l of lives) this.#text(l.a, l.y + HEIGHTS.life / 2, l.label, { span: [l.a, l.b], align: "center", loose: true, color: l.bad ? "error" : "ink" });
  }

  #evidenceRows() {
    const x = (t) => this.axis.place(t);
    this.marks = this.flags.flatMap(([id, rule, severity, marks]) => marks.map(([t, primary, text], n) => ({ finding: id, rule, severity, number: n + 1, primary, text, place: x(t) })));
    return 1 + Math.max(0, ...stacked(this.marks, this.axis.range, this.#pixels()));
  }

  #evidence(top, bottom) {
    this.evidenceTop = top + 3 + EVIDENCE / 2;
    const main = this.marks.filter((m) => m.primary);
    this.#glyph("Segment", { x0: main.map((m) => m.place), x1: main.map((m) => m.place), y0: main.map(() => 0), y1: main.map(() => bottom), line_color: main.map((m) => colour(m.severity)) },
      { line_dash: [5, 3] });
    const data = { x: this.marks.map((m) => m.place), y: this.marks.map(() => this.evidenceTop), tip: this.marks.map((m) => m.text),
      fill: this.marks.map((m) => colour(m.primary ? m.severity : "page")), line: this.marks.map((m) => colour(m.severity)) };
    const source = this.#glyph("Scatter", data, { x: field("x"), y: field("y"), marker: "circle", size: 17, fill_color: field("fill"), line_color: field("line"), line_width: 1.5 }, "evidence",
      { line_width: 4 });
  }

  /** A cut through all lanes where silence is left out, and how long it was. */
  #breaks() {
    const { stretches } = this.axis;
    const cuts = stretches.slice(1).map(([start, , x], n) => ({ x: (x + stretches[n][3]) / 2, length: (start - stretches[n][1]) / NS }));
    const sides = cuts.flatMap(({ x }) => [x - 0.03, x + 0.03]);
    this.#glyph("Quad", { left: cuts.map((c) => c.x - 0.03), right: cuts.map((c) => c.x + 0.03), top: cuts.map(() => 0), bottom: cuts.map(() => this.bottom) }, { fill_color: colour("page"), line_color: null });
    this.#glyph("Segment", { x0: sides, x1: sides, y0: sides.map(() => 0), y1: sides.map(() => this.bottom) }, { line_color: colour("dim"), line_dash: [2, 2] });
    for (const c of cuts) this.#text(c.x, 8, `⋮ ${seconds(c.length)}`, { align: "center", rank: 0, color: "dim" });
  }

  // ---- pieces

  #pixels() { return Math.max(this.plot.clientWidth - LEFT - 12, 100); }

  /** The number on a mark of evidence; where several findings are on the figure, the rule's code on what is the finding. */
  #number(m, y) {
    const code = m.primary && this.flags.length > 1;
    return labelled(m.place, y, code ? m.rule : String(m.number), { align: "center", rank: m.primary ? 0 : 1, color: m.primary && !code ? `on-${m.severity}` : "ink", bare: !code });
  }

  #text(...label) { this.labels.push(labelled(...label)); }

  #bars(name, bars, style) {
    const data = { left: bars.map((b) => b[0]), right: bars.map((b) => b[1]), top: bars.map((b) => b[2]), bottom: bars.map((b) => b[3]), tip: bars.map((b) => b[4]) };
    this.#glyph("Quad", data, style, name);
  }

  #dots(name, dots) {
    const column = (n) => dots.map((d) => d[n]);
    this.#glyph("Scatter", { x: column(0), y: column(1), marker: column(2), size: column(3), color: column(4), tip: column(5) },
      { x: field("x"), y: field("y"), marker: field("marker"), size: field("size"), fill_color: field("color"), line_color: field("color"), line_width: 1.6 }, name);
  }

  /** A glyph over columns: coordinates and lists become fields; with a name, it answers the mouse. */
  #glyph(kind, data, style, name = null, selected = null, more = {}) {
    const columns = { ...data, ...more };
    const values = {};
    for (const [key, value] of Object.entries(style)) {
      if (Array.isArray(value) && key !== "line_dash") { columns[key] = value; values[key] = field(key); } else values[key] = value;
    }
    if (kind !== "Scatter") for (const key of Object.keys(data)) if (key !== "tip") values[key] = field(key);
    const source = make("ColumnDataSource", { data: columns });
    if (name) this.sources[name] = source;
    this.#render(kind, source, values, name, selected);
    return source;
  }

  #render(kind, source, values, name = null, selected = null) {
    const renderer = make("GlyphRenderer", { data_source: source, glyph: make(kind, values), nonselection_glyph: null, hover_glyph: null,
      selection_glyph: selected ? make(kind, { ...values, ...selected }) : null });
    this.renderers.push(renderer);
    if (name) this.hovered.push(renderer);
  }
}


const make = (name, attributes) => new (Bokeh.Models.get(name))(attributes);
/** A label that wants to be drawn: the lower its rank, the sooner; `within` what width of the axis, of at `most` so many pixels; a
    `span` it is the name of. */
function labelled(x, y, text, { align = "left", color = "ink", rank = 3, within = Infinity, most = 420, span = null, bare = false, loose = false } = {}) {
  return { x, y, text, align, color: colour(color), rank, within, most, span, loose, ground: bare || color.startsWith("on-") ? null : colour("page") };
}

/** For each mark the row in which it covers no other one, where the axis shows `view` on so many pixels. */
function stacked(marks, [from, to], pixels) {
  const last = Array(ROWS).fill(-Infinity);
  const rows = Array(marks.length).fill(0);
  const order = marks.map((_, n) => n).sort((a, b) => marks[a].place - marks[b].place || a - b);
  for (const n of order) {
    const x = ((marks[n].place - from) / (to - from)) * pixels;
    const free = last.findIndex((end) => x - end >= EVIDENCE);
    rows[n] = free < 0 ? last.indexOf(Math.min(...last)) : free;
    last[rows[n]] = x;
  }
  return rows;
}

const field = (name) => ({ field: name });

/** The labels that fit where the axis shows `view` on so many pixels: the gravest first, none over another. */
function fitted(labels, [from, to], pixels) {
  const scale = pixels / (to - from);
  const rows = new Map();
  const out = { x: [], y: [], text: [], color: [], align: [], ground: [] };
  const order = labels.map((_, n) => n).sort((a, b) => labels[a].rank - labels[b].rank || a - b);
  for (const n of order) {
    const label = labels[n];
    const [a, b] = label.span ?? [label.x, label.x];
    if (b < from || a > to) continue;
    const x = label.span ? (Math.max(a, from) + Math.min(b, to)) / 2 : label.x;
    const within = label.span && !label.loose ? Math.min(b, to) - Math.max(a, from) : label.within;
    const beside = label.align === "left" ? (to - x) * scale : Infinity;
    // What would run over the right border ends at its place instead of beginning there.
    const align = beside < Math.min(measure(label.text), label.most) && beside < 160 ? "right" : label.align;
    const text = clipped(label.text, align === "left" ? Math.min(label.most, beside) : label.most);
    const width = measure(text);
    if (!text || width + 6 > within * scale) continue;
    const start = x * scale + { left: 2, center: -width / 2, right: -width - 2 }[align];
    const row = rows.get(label.y) ?? rows.set(label.y, []).get(label.y);
    if (row.some(([p, q]) => start < q + 5 && p < start + width + 5)) continue;
    row.push([start, start + width]);
    out.x.push(x + { left: 2, center: 0, right: -2 }[align] / scale);
    out.y.push(label.y);
    out.text.push(text);
    out.color.push(label.color);
    out.align.push(align);
    out.ground.push(label.ground);
  }
  return out;
}

/** `text` in so many pixels, an ellipsis where it was cut. */
function clipped(text, room) {
  if (measure(text) <= room) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (measure(`${text.slice(0, middle)}…`) <= room) low = middle; else high = middle - 1;
  }
  return low > 3 ? `${text.slice(0, low)}…` : "";
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
