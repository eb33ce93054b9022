// What is drawn of a scene: lanes from the top, each as glyphs of BokehJS and labels that want room.

const GAP = 6;
const HEIGHTS = { invocations: 34, calls: 34, pings: 54, states: 24, packets: 96, log: 34, life: 18 };
/** How each kind of packet looks: colour, width of its stroke, head, size of the head, and its name. */
const LOOKS = {
  ack: ["dim", 0.5, null, 0, "ACK"], data: ["data", 1, "arrow", 6, "data"], keepalive: ["dim", 1, "circle", 6, "keepalive probe"],
  ping: ["ping", 1.2, "diamond", 8, "PING"], again: ["orange", 1.3, "arrow", 7, "retransmitted"], goaway: ["purple", 1.4, "hex", 9, "GOAWAY"],
  syn: ["good", 1.3, "circle", 7, "SYN"], fin: ["purple", 1.5, "square", 7, "FIN"], rst: ["error", 1.6, "x", 9, "RST"],
};
/** Kinds that are named first where there is room. */
const GRAVE = ["rst", "fin", "goaway", "syn", "ping"];
/** Half of the width of a break, in units of the axis. */
const CUT = 0.03;

const make = (name, attributes) => new (Bokeh.Models.get(name))(attributes);
const field = (name) => ({ field: name });

/** The fields of rows as columns. */
const columns = (rows) => Object.fromEntries(Object.keys(rows[0] ?? {}).map((key) => [key, rows.map((row) => row[key])]));

class Drawing {
  /** `flags` are the findings whose evidence is marked, `pixels` how wide it will be. */
  constructor(content, flags, axis, pixels) {
    Object.assign(this, { content, flags, axis });
    this.renderers = [];
    this.hovered = [];
    this.labels = [];
    this.used = new Set();
    this.marks = flags.flatMap(([finding, rule, severity, marks]) => marks.map(([time, primary, text], n) => ({ finding, rule, severity, number: n + 1, primary, text, place: axis.place(time) })));
    this.#lay(pixels);
    this.#draw();
  }

  /** Lanes from the top: those that have something to show. */
  #lay(pixels) {
    const { content } = this;
    this.lanes = [];
    let y = this.axis.breaks.length ? 18 : 4;
    const add = (name, size, draw) => {
      this.lanes.push({ name, top: y, bottom: y + size, draw });
      y += size + GAP;
    };
    if (content.invocations.length) add("invocations", HEIGHTS.invocations, (...place) => this.#invocations(...place));
    if (content.calls.length) add("calls", HEIGHTS.calls, (...place) => this.#calls(...place));
    if (content.pings.length) add("pings", HEIGHTS.pings, (...place) => this.#pings(...place));
    for (const track of content.tracks) {
      const of = content.tracks.length > 1 ? `${track.name} ` : "";
      if (track.client.length) add(`${of}client`, HEIGHTS.states, (...place) => this.#states("client", track, ...place));
      if (track.packets.length) add("", HEIGHTS.packets, (...place) => this.#packets(track, ...place));
      if (track.server.length) add(`${of}server`, HEIGHTS.states, (...place) => this.#states("server", track, ...place));
    }
    if (content.lives.length) add("connections", HEIGHTS.life * content.lives.length, (top) => this.#lives(top));
    if (content.log.length) add("log", HEIGHTS.log, (...place) => this.#log(...place));
    const rows = 1 + Math.max(0, ...stacked(this.marks, this.axis.range, pixels));
    if (this.marks.length) add("evidence", rows * STEP + 6, (...place) => this.#evidence(...place));
    this.bottom = y - GAP;
  }

  #draw() {
    const [first, last] = this.axis.range;
    const x = (time) => this.axis.place(time);
    const far = last - first;
    this.#glyphs("Quad", this.lanes.map(({ top, bottom }) => ({ left: first - far, right: last + far, top, bottom })), { fill_color: colour("lane"), line_color: null });
    this.#glyphs("Quad", this.content.freezes.map(([a, b, length]) => ({ left: x(a), right: x(b), top: 0, bottom: this.bottom, tip: `frozen ${length}` })),
      { fill_color: colour("freeze"), fill_alpha: 0.8, line_color: null, hatch_pattern: "right_diagonal_line", hatch_color: colour("hatch"), hatch_scale: 8, hatch_weight: 1 });
    for (const lane of this.lanes) lane.draw(lane.top, lane.bottom);
    this.#breaks();
    this.words = make("ColumnDataSource", { data: fitted([], [0, 1], 1) });
    this.#render("Text", this.words, { x: field("x"), y: field("y"), text: field("text"), text_color: field("color"), text_align: field("align"),
      text_baseline: "middle", text_font: "system-ui, sans-serif", text_font_size: "11px", background_fill_color: field("ground"), background_fill_alpha: 0.8 });
  }

  /** Place the labels that fit where the axis shows `view`, and the numbers of the evidence beside each other. */
  fit(view, pixels) {
    const rows = stacked(this.marks, view, pixels);
    const y = this.marks.map((_, n) => this.evidenceTop + rows[n] * STEP);
    if (this.evidence) this.evidence.data = { ...this.evidence.data, y };
    this.words.data = fitted([...this.labels, ...this.marks.map((m, n) => this.#number(m, y[n]))], view, pixels);
  }

  // ---- lanes

  #invocations(top, bottom) {
    const { invocations, freezes } = this.content;
    const x = (time) => this.axis.place(time);
    this.#glyphs("Quad", invocations.map(([a, b, bad, , tip]) => ({ left: x(a), right: x(b), top: bottom - 15, bottom: bottom - 2, fill_color: colour(bad ? "error" : "invocation"), tip })),
      { line_color: colour("lane") });
    for (const [a, , bad, label] of invocations) this.#text(x(a), top + 8, label, { rank: bad ? 0 : 2, color: bad ? "error" : "ink" });
    for (const [a, b, length] of freezes) this.#text((x(a) + x(b)) / 2, bottom - 8, `frozen ${length}`, { within: x(b) - x(a), align: "center", rank: 1 });
  }

  #calls(top, bottom) {
    for (const [a, , failed, label] of this.content.calls) if (failed) this.#text(this.axis.place(a), top + 8, label, { rank: 1, color: "error" });
    const bars = this.content.calls.map(([a, b, failed, , tip]) => {
      const tone = colour(failed ? "error" : "good");
      return { left: this.axis.place(a), right: this.axis.place(b), top: bottom - 13, bottom: bottom - 4, fill_color: tone, line_color: tone, tip };
    });
    this.#glyphs("Quad", bars, {});
  }

  /** Arcs from a ping to its answer, or to where it was given up. */
  #pings(top, bottom) {
    const y = bottom - 8;
    const tones = { acked: "good", timeout: "error", open: "dim" };
    const pings = this.content.pings.map(([sent, end, fate, tip]) => ({ x0: this.axis.place(sent), x1: this.axis.place(end), fate, tone: colour(tones[fate]), tip }));
    const ended = pings.filter((p) => p.fate !== "open");
    this.#glyphs("Bezier", ended.map(({ x0, x1, tone }) => ({ x0, x1, cx0: x0, cx1: x1, y0: y, y1: y, cy0: y - 34, cy1: y - 34, line_color: tone })), { line_width: 1.6 });
    this.#dots(pings.map(({ x0, tip }) => [x0, y, "circle", 5, colour("ink"), tip]));
    this.#dots(ended.map(({ x1, fate, tone, tip }) => [x1, y, fate === "acked" ? "circle" : "x", fate === "acked" ? 5 : 9, tone, tip]));
    for (const p of ended) this.used.add(p.fate === "acked" ? "ping answered" : "ping timed out");
    for (const p of ended.filter((one) => one.fate === "timeout")) this.#text((p.x0 + p.x1) / 2, top + 6, p.tip, { align: "center", color: "error" });
  }

  #states(side, track, top, bottom) {
    const runs = track[side].map(([start, end, state]) => ({ state, span: [this.axis.place(start), this.axis.place(end)], length: seconds((end - start) / NS) }));
    this.#glyphs("Quad", runs.map(({ state, span, length }) => ({ left: span[0], right: span[1], top: top + 2, bottom: bottom - 2, fill_color: colour(`state-${state}`), tip: `${side}: ${state} for ${length}` })),
      { line_color: colour("page"), line_width: 0.5 });
    for (const { state, span } of runs) this.#text(span[0], (top + bottom) / 2, state, { align: "center", color: `on-state-${state}`, span });
  }

  /** Strokes between the client's line and the server's, the head at the receiver; a lost one ends half way, one made on the way begins there. */
  #packets(track, top, bottom) {
    const [upper, lower, half] = [top + 20, bottom - 20, (top + bottom) / 2];
    const [x0, x1] = this.axis.range;
    this.#glyphs("Segment", [upper, lower].map((y) => ({ x0, x1, y0: y, y1: y })), { line_color: colour("dim") });
    const packets = track.packets.map(([near, far, down, kind, fate, label, tip]) => {
      const [from, to, start, end] = down ? [upper, lower, near, far] : [lower, upper, far, near];
      const [tone, width, head, size, name] = LOOKS[kind];
      this.used.add(name);
      return { x0: this.axis.place(start), x1: this.axis.place(end), y0: fate === 2 ? half : from, y1: fate === 1 ? half : to, down, kind, lost: fate === 1, label, tip, tone, width, head, size };
    });
    this.#glyphs("Segment", packets.map((p) => ({ x0: p.x0, x1: p.x1, y0: p.y0, y1: p.y1, line_color: colour(p.tone), line_width: p.width, line_dash: p.lost || p.kind === "again" ? [4, 2] : [], tip: p.tip })), {});
    const headed = packets.filter((p) => p.head || p.lost);
    this.#dots(headed.map((p) => {
      const marker = p.lost ? "x" : p.head !== "arrow" ? p.head : p.down ? "inverted_triangle" : "triangle";
      const back = p.lost ? 0 : p.down ? -4 : 4;
      return [p.x1, p.y1 + back, marker, p.lost ? 9 : p.size, colour(p.lost ? "error" : p.tone), p.tip];
    }));
    for (const p of headed.filter((one) => one.lost || !["data", "keepalive"].includes(one.kind))) {
      const words = `${p.label}${p.kind === "again" ? " again" : ""}${p.lost ? " lost" : ""}`;
      const rank = GRAVE.indexOf(p.kind);
      this.#text(p.x0, p.down ? upper - 11 : lower + 11, words, { align: "center", most: 160, rank: rank < 0 ? GRAVE.length : rank, color: p.kind === "rst" || p.lost ? "error" : "ink" });
    }
  }

  #lives(top) {
    this.content.lives.forEach(([start, end, bad, label, tip], n) => {
      const [span, y] = [[this.axis.place(start), this.axis.place(end)], top + n * HEIGHTS.life];
      const tone = bad ? "error" : "invocation";
      this.#glyphs("Quad", [{ left: span[0], right: span[1], top: y + 4, bottom: y + HEIGHTS.life - 4, tip }], { fill_color: colour(tone), line_color: colour("ink"), line_width: 0.5 });
      this.#text(span[0], y + HEIGHTS.life / 2, label, { span, align: "center", color: `on-${tone}` });
      this.#text(span[1], y + HEIGHTS.life / 2, label, { unless: span, color: bad ? "error" : "ink" });
    });
  }

  #log(top, bottom) {
    const lines = this.content.log.map(([time, bad, words, tip]) => ({ x: this.axis.place(time), bad, words, tip }));
    const bad = lines.filter((line) => line.bad);
    this.#glyphs("Segment", lines.filter((line) => !line.bad).map(({ x, tip }) => ({ x0: x, x1: x, y0: bottom - 16, y1: bottom - 4, tip })), { line_color: colour("dim") });
    this.#dots(bad.map(({ x, tip }) => [x, bottom - 10, "inverted_triangle", 9, colour("error"), tip]));
    for (const { x, words } of bad) this.#text(x, top + 7, words, { most: 260, color: "error" });
    if (bad.length) this.used.add("log line of a failure");
  }

  #evidence(top, bottom) {
    this.evidenceTop = top + 3 + STEP / 2;
    const main = this.marks.filter((m) => m.primary);
    this.#glyphs("Segment", main.map((m) => ({ x0: m.place, x1: m.place, y0: 0, y1: bottom, line_color: colour(m.severity) })), { line_dash: [5, 3] });
    const marks = this.marks.map((m) => ({ x: m.place, y: this.evidenceTop, fill_color: colour(m.primary ? m.severity : "page"), line_color: colour(m.severity), tip: m.text }));
    this.evidence = this.#glyphs("Scatter", marks, { marker: "circle", size: 17, line_width: 1.5 }, { line_width: 4 });
  }

  /** The number on a mark of evidence; where several findings are on the figure, the rule's code on what is the finding. */
  #number(m, y) {
    const code = m.primary && this.flags.length > 1;
    const color = m.primary && !code ? `on-${m.severity}` : "ink";
    return labelled(m.place, y, code ? m.rule : String(m.number), { align: "center", rank: m.primary ? 0 : 1, color, bare: !code });
  }

  /** A cut through all lanes where silence is left out, and how long it was. */
  #breaks() {
    const { breaks } = this.axis;
    this.#glyphs("Quad", breaks.map(({ x }) => ({ left: x - CUT, right: x + CUT, top: 0, bottom: this.bottom })), { fill_color: colour("page"), line_color: null });
    this.#glyphs("Segment", breaks.flatMap(({ x }) => [x - CUT, x + CUT]).map((x) => ({ x0: x, x1: x, y0: 0, y1: this.bottom })), { line_color: colour("dim"), line_dash: [2, 2] });
    for (const { x, length } of breaks) this.#text(x, 8, `⋮ ${seconds(length)}`, { align: "center", rank: 0, color: "dim" });
  }

  // ---- pieces

  #text(...label) { this.labels.push(labelled(...label)); }

  /** Marks: place, kind, size, colour and words of each. */
  #dots(dots) {
    this.#glyphs("Scatter", dots.map(([x, y, marker, size, tone, tip]) => ({ x, y, marker, size, fill_color: tone, line_color: tone, tip })), { line_width: 1.6 });
  }

  /** Many glyphs of one kind: what differs stands in the rows, what all share in `style`; those with a `tip` answer the mouse. */
  #glyphs(kind, rows, style, selected = null) {
    if (!rows.length) return null;
    const source = make("ColumnDataSource", { data: columns(rows) });
    const fields = Object.keys(rows[0]).filter((key) => key !== "tip");
    this.#render(kind, source, { ...style, ...Object.fromEntries(fields.map((key) => [key, field(key)])) }, "tip" in rows[0], selected);
    return source;
  }

  #render(kind, source, values, told = false, selected = null) {
    const renderer = make("GlyphRenderer", { data_source: source, glyph: make(kind, values), nonselection_glyph: null, hover_glyph: null,
      selection_glyph: selected && make(kind, { ...values, ...selected }) });
    this.renderers.push(renderer);
    if (told) this.hovered.push(renderer);
  }
}
