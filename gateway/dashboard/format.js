// Numbers as people read them. Lengths stay short, so that tables don't jump.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
const NOTHING = "–";

/** Seconds: 850 µs, 12.3 ms, 1.25 s, 2 min 5 s. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NOTHING;
  if (seconds < 0.00095) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.0995) return `${trimmed(seconds * 1e3, 1)} ms`;
  if (seconds < 0.9995) return `${Math.round(seconds * 1e3)} ms`;
  if (seconds < 9.995) return `${trimmed(seconds, 2)} s`;
  if (seconds < 59.5) return `${trimmed(seconds, 1)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Bytes: 512 MiB, 1.5 GiB. */
export function bytes(number) {
  if (number === null || number === undefined) return NOTHING;
  let exponent = 0;
  let value = number;
  while (value >= 1000 && exponent < UNITS.length - 1) {
    value /= 1024;
    exponent += 1;
  }
  return `${trimmed(value, value < 10 && exponent ? 1 : 0)} ${UNITS[exponent]}`;
}

/** A rate or a count: 0, 0.4, 12.5, 180, 12,345. */
export function quantity(number) {
  if (number === null || number === undefined) return NOTHING;
  if (number === 0 || Math.abs(number) >= 99.95) return Math.round(number).toLocaleString("en-US");
  return trimmed(number, 1);
}

/** A share of 1: 97.5 %. Less than all is never rounded up to all. */
export function percent(share) {
  if (share === null || share === undefined) return NOTHING;
  const value = share * 100;
  return `${share < 1 && value > 99.9 ? "99.9" : trimmed(value, 1)} %`;
}

/** An instant by its distance from now, on an axis whose marks are stepS apart: now, −250 ms, −5 s. */
export function before(seconds, stepS) {
  if (Math.abs(seconds) < stepS / 100) return "now";
  const sign = seconds > 0 ? "−" : "+";
  const distance = Math.abs(seconds);
  if (stepS < 0.1 && distance < 1) return `${sign}${trimmed(distance * 1e3, stepS < 0.001 ? 1 : 0)} ms`;
  return `${sign}${trimmed(distance, Math.max(0, Math.ceil(-Math.log10(stepS) - 1e-9)))} s`;
}

/** "1 step", "2 steps", "2 switches". */
export function counted(number, noun, nouns = `${noun}s`) {
  return `${number.toLocaleString("en-US")} ${number === 1 ? noun : nouns}`;
}

function trimmed(value, digits) {
  const text = value.toFixed(digits);
  return digits ? text.replace(/\.?0+$/, "") : text;
}
