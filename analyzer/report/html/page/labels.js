// Words and numbers on a timeline: those that fit.

const FONT = "11px system-ui, sans-serif";
/** Numbers of evidence that lie close together stand in so many rows, so far apart. */
const ROWS = 3;
const STEP = 18;

const measure = (() => {
  const context = document.createElement("canvas").getContext("2d");
  context.font = FONT;
  return (text) => context.measureText(text).width;
})();

/** A label that wants to be drawn: the lower its rank, the sooner; `within` what width of the axis, of at `most` so many pixels; the name
    of a `span`, which lies inside; or one that is needed only where a span is too narrow for it (`unless`). */
function labelled(x, y, text, { align = "left", color = "ink", rank = 3, within = Infinity, most = 420, span = null, unless = null, bare = false } = {}) {
  return { x, y, text, align, color: colour(color), rank, within, most, span, unless, ground: bare || color.startsWith("on-") ? null : colour("page") };
}

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
    const seen = ([start, end]) => Math.min(end, to) - Math.max(start, from);
    const x = label.span ? (Math.max(a, from) + Math.min(b, to)) / 2 : label.x;
    const within = label.span ? seen(label.span) : label.within;
    const beside = label.align === "left" ? (to - x) * scale : Infinity;
    // What would run over the right border ends at its place instead of beginning there.
    const align = beside < Math.min(measure(label.text), label.most) && beside < 160 ? "right" : label.align;
    const text = clipped(label.text, align === "left" ? Math.min(label.most, beside) : label.most);
    const width = measure(text);
    if (!text || width + 6 > within * scale || (label.unless && width + 6 <= seen(label.unless) * scale)) continue;
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

/** For each mark the row in which it covers no other one, where the axis shows `view` on so many pixels. */
function stacked(marks, [from, to], pixels) {
  const last = Array(ROWS).fill(-Infinity);
  const rows = Array(marks.length).fill(0);
  const order = marks.map((_, n) => n).sort((a, b) => marks[a].place - marks[b].place || a - b);
  for (const n of order) {
    const x = ((marks[n].place - from) / (to - from)) * pixels;
    const free = last.findIndex((end) => x - end >= STEP);
    rows[n] = free < 0 ? last.indexOf(Math.min(...last)) : free;
    last[rows[n]] = x;
  }
  return rows;
}
