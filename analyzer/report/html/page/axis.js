// The time axis: places of times, and ticks.

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
    /** Where silence is left out, and how much of it, in seconds. */
    this.breaks = cut ? stretches.slice(1).map(([start, , x], n) => ({ x: (x + stretches[n][3]) / 2, length: (start - stretches[n][1]) / NS })) : [];
  }

  place(time) { return between(time, this.times, this.places); }

  time(place) { return between(place, this.places, this.times); }
}

/** Where `value` lies among `to`, as it lies among sorted `from`. */
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
