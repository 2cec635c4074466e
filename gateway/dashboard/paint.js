// Draws a worker's lane. Knows nothing of the page around it; x is in CSS pixels.

import { stepsOf } from "./history.js";
import { shares } from "./shares.js";
import { duration, quantity } from "./format.js";

export const LANE_PX = 74;
const MARKS_PX = 19; // above the bar, where switches are marked
const BAR_PX = 44;
const TOP_PX = 4;
const BAR_AT = TOP_PX + MARKS_PX;

const THIN_PX = 1.5; // narrower turns are drawn as the shares that models have of a column
const STEP_PX = 3; // steps are told apart from here on
const NUMBERS_PX = 34;
const NAME_PX = 90; // from here on a name may be cut off
const MARK_PX = 9;
const MARK_TEXT_PX = 92;

/** Where instants are: fromS at x = 0. */
export function scaleOf({ fromS, toS }, widthPx) {
  const pxPerS = widthPx / (toS - fromS);
  return { fromS, toS, widthPx, pxPerS, x: (atS) => (atS - fromS) * pxPerS };
}

/** turns: of one worker, those in sight. look: colours and fonts. */
export function paintLane(context, top, turns, scale, look) {
  context.fillStyle = look.track;
  context.fillRect(0, top + BAR_AT, scale.widthPx, BAR_PX);
  const isThin = (turn) => (turn.endS - turn.startS) * scale.pxPerS < THIN_PX;
  paintShares(context, top, turns.filter(isThin), scale, look);
  turns.forEach((turn, index) => {
    const before = turns[index - 1];
    if (turn.switched) paintWait(context, top, turn, before, scale, look);
    if (!isThin(turn)) paintTurn(context, top, turn, scale, look);
  });
  paintMarks(context, top, turns, scale, look);
}

function paintShares(context, top, turns, scale, look) {
  for (const { x, parts } of shares(turns, scale)) {
    let y = top + BAR_AT + BAR_PX;
    for (const [model, share] of parts) {
      const height = share * BAR_PX;
      context.fillStyle = look.colour(model);
      context.fillRect(x, y - height, 1, height);
      y -= height;
    }
  }
}

function paintTurn(context, top, turn, scale, look) {
  const y = top + BAR_AT;
  const [left, right] = [scale.x(turn.startS), scale.x(turn.endS)];
  context.fillStyle = look.colour(turn.model);
  context.globalAlpha = look.betweenSteps;
  context.fillRect(left, y, Math.max(right - left, 1), BAR_PX);
  context.globalAlpha = 1;
  for (const piece of turn.pieces) paintSteps(context, y, piece, scale, look);
  const [from, to] = [Math.max(left, 0), Math.min(right, scale.widthPx)];
  context.font = look.font;
  const roomPx = to - from - 10;
  if (roomPx >= Math.min(NAME_PX, context.measureText(turn.model).width)) {
    paintText(context, look.onColour, turn.model, from + 6, y + 15, roomPx);
  }
}

function paintSteps(context, y, piece, scale, look) {
  const meanPx = ((piece.endS - piece.startS) * scale.pxPerS * 4) / piece.steps.length;
  context.fillStyle = look.colour(piece.model);
  if (meanPx < STEP_PX) {
    const left = scale.x(piece.startS);
    context.fillRect(left, y, Math.max(scale.x(piece.endS) - left, 1), BAR_PX);
    return;
  }
  for (const step of stepsOf(piece)) {
    const left = scale.x(step.startS);
    const width = step.durationS * scale.pxPerS;
    if (left + width < 0 || left > scale.widthPx) continue;
    const inner = Math.max(width - Math.min(1, width / 8), 0.5); // a hair between two steps
    context.fillStyle = look.colour(piece.model);
    context.fillRect(left, y, inner, BAR_PX);
    paintPrefill(context, y, left, inner, step, look);
    if (width >= NUMBERS_PX) paintNumbers(context, y, left, width, step, look);
  }
}

/** The part of a step's tokens that are of prompts, as a darker band from below. */
function paintPrefill(context, y, left, width, { numPrefill, numDecode }, look) {
  if (!numPrefill) return;
  const height = Math.max(4, (BAR_PX / 2) * (numPrefill / (numPrefill + numDecode)));
  context.fillStyle = look.prefill;
  context.fillRect(left, y + BAR_PX - height, width, height);
}

function paintNumbers(context, y, left, width, { numPrefill, numDecode }, look) {
  const parts = [];
  if (numPrefill) parts.push(`${quantity(numPrefill)}P`);
  if (numDecode) parts.push(`${quantity(numDecode)}D`);
  context.font = look.smallFont;
  while (parts.length && context.measureText(parts.join(" ")).width > width - 7) parts.pop(); // a number is whole or not there
  paintText(context, look.onColour, parts.join(" "), left + 4, y + BAR_PX - 7, width - 4);
}

/** What a switch cost: nothing ran from the decision until the first operation. */
function paintWait(context, top, turn, before, scale, look) {
  const fromS = Math.max(turn.startS - turn.switched.waited_s, before?.endS ?? -Infinity);
  const [left, right] = [scale.x(fromS), scale.x(turn.startS)];
  if (right - left < 1) return;
  context.fillStyle = look.wait;
  context.fillRect(left, top + BAR_AT, right - left, BAR_PX);
}

function paintMarks(context, top, turns, scale, look) {
  let freeFrom = -Infinity; // marks that would touch are left out: the bars show that there are many
  const switches = turns.filter((turn) => turn.switched);
  switches.forEach((turn, index) => {
    const x = scale.x(turn.startS);
    if (x < freeFrom || x < -MARK_PX) return;
    freeFrom = x + MARK_PX;
    const y = top + TOP_PX + MARKS_PX / 2 - 1;
    const { kind, waited_s: waitedS } = turn.switched;
    paintMark(context, kind, x, y, look.marks[kind] ?? look.faint);
    const next = switches[index + 1];
    const roomPx = (next ? scale.x(next.startS) : scale.widthPx) - x - MARK_PX;
    if (roomPx < MARK_TEXT_PX) return;
    context.font = look.smallFont;
    const text = waitedS >= 0.0005 ? `${kind} · ${duration(waitedS)}` : kind;
    paintText(context, look.faint, text, x + MARK_PX, y + 3.5, roomPx - 4);
  });
}

/** A shape per kind, so that colour is not needed to tell them apart. The page's legend has the same. */
function paintMark(context, kind, x, y, colour) {
  context.fillStyle = context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.beginPath();
  if (kind === "resident") context.arc(x, y, 2.2, 0, 2 * Math.PI);
  else if (kind === "prefetched") context.arc(x, y, 3.2, 0, 2 * Math.PI);
  else if (kind === "streamed") polygon(context, x, y, [[-4, -3.5], [4, 0], [-4, 3.5]]);
  else if (kind === "copied") context.rect(x - 3.2, y - 3.2, 6.4, 6.4);
  else polygon(context, x, y, [[0, -4.6], [4.6, 0], [0, 4.6], [-4.6, 0]]);
  if (kind === "prefetched") context.stroke();
  else context.fill();
}

function polygon(context, x, y, corners) {
  corners.forEach(([dx, dy]) => context.lineTo(x + dx, y + dy));
  context.closePath();
}

function paintText(context, colour, text, x, y, widthPx) {
  if (widthPx < 8) return;
  context.save();
  context.beginPath();
  context.rect(x, y - 14, widthPx, 20);
  context.clip();
  context.fillStyle = colour;
  context.fillText(text, x, y);
  context.restore();
}

/** A ring around a step. */
export function paintCursor(context, top, step, scale, look) {
  const left = scale.x(step.startS);
  context.strokeStyle = look.ink;
  context.lineWidth = 2;
  context.strokeRect(left - 1, top + BAR_AT - 1, Math.max(step.durationS * scale.pxPerS, 2) + 2, BAR_PX + 2);
}

/** The axis below the lanes. nowS: what its marks count from. */
export function paintAxis(context, top, height, stepS, text, scale, look) {
  context.font = look.smallFont;
  context.fillStyle = look.line;
  const first = Math.ceil((scale.fromS - scale.nowS) / stepS);
  const last = Math.floor((scale.toS - scale.nowS) / stepS);
  for (let mark = first; mark <= last; mark += 1) {
    const x = Math.round(scale.x(scale.nowS + mark * stepS));
    context.fillStyle = look.line;
    context.fillRect(x, 0, 1, top + 4);
    context.fillStyle = look.faint;
    const label = text(-mark * stepS);
    const width = context.measureText(label).width;
    const fits = Math.min(Math.max(x - width / 2, 2), scale.widthPx - width - 2);
    context.fillText(label, fits, top + height - 6);
  }
}
