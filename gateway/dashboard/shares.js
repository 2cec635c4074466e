// Where turns are narrower than a pixel: what part of each column of pixels each model had.

/**
 * turns: {model, startS, endS} in order. Yields {x, parts} from left to right for columns in which anything ran; parts are
 * [model, share of the column's time], by name, so that a model keeps its place from column to column.
 */
export function* shares(turns, { fromS, pxPerS, widthPx }) {
  const columns = new Map(); // x -> Map of model -> share
  for (const { model, startS, endS } of turns) {
    const left = (startS - fromS) * pxPerS;
    const right = (endS - fromS) * pxPerS;
    for (let x = Math.max(0, Math.floor(left)); x < Math.min(widthPx, right); x += 1) {
      let column = columns.get(x);
      if (!column) columns.set(x, (column = new Map()));
      const part = Math.min(right, x + 1) - Math.max(left, x);
      column.set(model, (column.get(model) ?? 0) + part);
    }
  }
  for (const [x, column] of [...columns].sort(([a], [b]) => a - b)) {
    yield { x, parts: [...column].sort(([a], [b]) => (a < b ? -1 : 1)) };
  }
}
