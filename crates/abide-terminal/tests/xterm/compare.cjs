// Writes a recording into a headless xterm.js, up to some end, as it is and cut in two with a snapshot in place of
// the first part, and compares what both come to: cells, cursor, modes, everything that bears on what comes next.
//
// node compare.cjs jobs.json: an array of
//   { name, cols, rows, whole, resizes: [[cols, rows]…], cuts: [{ at, end, size: [cols, rows], snapshot, tail,
//   silent }] }
// where bytes are [file, start, end] and the ends of the cuts ascend. A silent tail must make the terminal neither answer nor ring; a snapshot never
// may. After a resize the visible part alone is compared: the scrollback is wrapped by whoever shows it.
// Prints a line of JSON per difference and exits with 1 if there is one.
'use strict';

const fs = require('node:fs');
const { Terminal } = require('@xterm/headless');
const { Unicode11Addon } = require('@xterm/addon-unicode11');

const SHOWN = 5;
// The states of the parser from here on: within an OSC or a DCS.
const STRINGS = 8;

function open(cols, rows) {
  const terminal = new Terminal({
    cols,
    rows,
    scrollback: 100000,
    allowProposedApi: true,
    logLevel: 'off',
    windowOptions: { pushTitle: true, popTitle: true },
  });
  terminal.loadAddon(new Unicode11Addon());
  terminal.unicode.activeVersion = '11';
  const seen = { terminal, title: '', noise: [] };
  terminal.onTitleChange((title) => (seen.title = title));
  terminal.onData((data) => seen.noise.push(data));
  terminal.onBell(() => seen.noise.push('bell'));
  return seen;
}

const write = (seen, bytes) => new Promise((done) => seen.terminal.write(bytes, done));

// A colour of 59 is written as all ones, which no sequence can bring about again.
const underlineColour = (attributes) => {
  const colour = attributes.extended.underlineColor & 0x3ffffff;
  return colour === 0x3ffffff ? 0 : colour;
};

// What is left over from an earlier colour in bits that the present kind of colour does not use is not compared.
const colour = (bits) => {
  const kind = bits & 0x3000000;
  const used = kind === 0x3000000 ? 0xffffff : kind === 0 ? 0 : 0xff;
  return bits & (0xec000000 | 0x3000000 | used);
};

const FORGOTTEN = { id: '', uri: '?' };
const NO_LINK = '-';
const sameLook = (one, other) => {
  const [a, b] = [one.split(' '), other.split(' ')];
  const [first, second] = [a.pop(), b.pop()];
  return a.join() === b.join() && (first === second || first === ';?' || second === ';?');
};

function look(core, attributes) {
  const linkId = attributes.bg & 0x10000000 ? attributes.extended.urlId : 0;
  // xterm.js forgets a link when the row is erased where it began, although other cells belong to it.
  const link = linkId ? (core._oscLinkService.getLinkData(linkId) ?? FORGOTTEN) : undefined;
  const underline = attributes.isUnderline() ? attributes.getUnderlineStyle() : 0;
  return [
    colour(attributes.fg),
    colour(attributes.bg),
    underline,
    underline ? underlineColour(attributes) : 0,
    link ? `${link.id ?? ''};${link.uri}` : NO_LINK,
  ].join(' ');
}

function cellText(core, line, col, gone) {
  const cell = line.loadCell(col, core.buffer.getNullCell().constructor.fromCharData([0, '', 1, 0]));
  let width = cell.getWidth();
  // The second half of a wide character that is no longer there is as good as empty.
  if (width === 0 && !cell.getChars() && !(col > 0 && line.getWidth(col - 1) === 2)) width = 1;
  // A wide character that had no room leaves the last cell empty with the look of the pen. Nothing of that is kept
  // if the rest of the line is unwrapped after this part of it has scrolled off.
  if (gone && col === line.length - 1 && !cell.getChars() && width === 1) return `"" 1 ${colour(cell.bg) & 0x3ffffff}`;
  // Nobody can follow the link of an empty cell.
  const seen = cell.getChars() ? look(core, cell) : look(core, cell).replace(/[^ ]*$/, NO_LINK);
  return `${JSON.stringify(cell.getChars())} ${width} ${seen}`;
}

function sameCells(one, other) {
  const [a, b] = [one._data, other._data];
  for (let i = 0; i < a.length; i++) {
    // Content that is kept elsewhere, or looks that are, cannot be compared here.
    if (a[i] !== b[i]) return false;
  }
  for (let i = 0; i < a.length; i += 3) {
    if (a[i] & 0x200000 || a[i + 2] & 0x10000000) return false;
  }
  return true;
}

function* bufferDifferences(name, one, other, first, second, visibleOnly) {
  const cols = one._bufferService.cols;
  if (!visibleOnly && first.lines.length !== second.lines.length) {
    yield `${name}: ${first.lines.length} lines and ${second.lines.length}`;
    return;
  }
  for (let y = visibleOnly ? first.ybase : 0; y < first.lines.length; y++) {
    const [a, b] = [first.lines.get(y), second.lines.get(y - first.ybase + second.ybase)];
    if (a.isWrapped !== b.isWrapped && y > 0) yield `${name} ${y}: wrapped ${a.isWrapped} and ${b.isWrapped}`;
    if (sameCells(a, b)) continue;
    for (let x = 0; x < cols; x++) {
      // When a row is cut off, xterm.js keeps the first half of a wide character.
      if (visibleOnly && x === cols - 1 && a.getWidth(x) === 2) continue;
      const [s, t] = [cellText(one, a, x, y < first.ybase), cellText(other, b, x, y < first.ybase)];
      if (!sameLook(s, t)) yield `${name} ${y - first.ybase},${x}: ${s} and ${t}`;
    }
  }
  const savedY = (buffer) => Math.max(buffer.savedY - buffer.ybase, 0);
  const state = (core, buffer) => ({
    x: buffer.x,
    y: buffer.y,
    top: buffer.scrollTop,
    bottom: buffer.scrollBottom,
    // A restored cursor does not wait behind the last column.
    savedX: Math.min(buffer.savedX, cols - 1),
    // xterm.js moves it by guesswork when lines are wrapped anew.
    savedY: visibleOnly ? 0 : savedY(buffer),
    savedLook: [colour(buffer.savedCurAttrData.fg), colour(buffer.savedCurAttrData.bg)].join(),
    savedCharset: Object.entries(buffer.savedCharset ?? {}).join(),
    tabs: Array.from({ length: cols }, (_, col) => (buffer.tabs[col] ? 'T' : '.')).join(''),
  });
  yield* stateDifferences(name, state(one, first), state(other, second));
}

function* stateDifferences(name, one, other) {
  for (const key of Object.keys(one)) {
    const [a, b] = [JSON.stringify(one[key]), JSON.stringify(other[key])];
    if (a !== b) yield `${name}.${key}: ${a} and ${b}`;
  }
}

function state(seen) {
  const core = seen.terminal._core;
  const handler = core._inputHandler;
  const charsets = core._charsetService;
  const parser = handler._parser;
  return {
    title: seen.title,
    titles: handler._windowTitleStack,
    look: look(core, handler._curAttrData),
    modes: core.coreService.modes,
    privateModes: core.coreService.decPrivateModes,
    hidden: core.coreService.isCursorHidden,
    mouse: [core.coreMouseService.activeProtocol, core.coreMouseService.activeEncoding],
    newline: core.optionsService.rawOptions.convertEol,
    blink: core.optionsService.rawOptions.cursorBlink,
    level: charsets.glevel,
    charset: Object.entries(charsets.charset ?? {}).join(),
    charsets: [0, 1, 2, 3].map((level) => Object.entries(charsets._charsets[level] ?? {}).join()),
    alternate: core._bufferService.buffers.active === core._bufferService.buffers.alt,
    parser: parser.currentState,
    printed: parser.precedingJoinState,
  };
}

function* differences(first, second, visibleOnly) {
  const [one, other] = [first.terminal._core, second.terminal._core];
  const [a, b] = [state(first), state(second)];
  // After a change of size a mark joins whatever is before the cursor.
  if (visibleOnly) a.printed = b.printed = 0;
  // A string that means nothing to anybody may have been dropped, or begun anew as another.
  if (a.parser >= STRINGS) a.parser = b.parser = 0;
  yield* stateDifferences('terminal', a, b);
  const [buffers, others] = [one._bufferService.buffers, other._bufferService.buffers];
  const names = a.alternate ? ['normal', 'alt'] : ['normal'];
  for (const name of names) yield* bufferDifferences(name, one, other, buffers[name], others[name], visibleOnly);
}

async function main() {
  const jobs = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
  const files = new Map();
  const read = ([file, start, end]) => {
    if (!files.has(file)) files.set(file, fs.readFileSync(file));
    return files.get(file).subarray(start, end);
  };
  let failed = 0;
  const report = (job, at, what) => {
    failed++;
    console.log(JSON.stringify({ name: job.name, at, what }));
  };
  for (const job of jobs) {
    const resized = job.resizes.length > 0;
    const whole = open(job.cols, job.rows);
    const bytes = read(job.whole);
    let written = 0;
    for (const cut of job.cuts) {
      if (cut.end > written) await write(whole, bytes.subarray(written, cut.end));
      written = cut.end;
      for (const [cols, rows] of job.resizes.splice(0)) whole.terminal.resize(cols, rows);
      const [cols, rows] = cut.size ?? [job.cols, job.rows];
      const again = open(cols, rows);
      await write(again, read(cut.snapshot));
      if (again.noise.length) report(job, cut.at, [`the snapshot: ${JSON.stringify(again.noise)}`]);
      again.noise.length = 0;
      await write(again, read(cut.tail));
      if (cut.silent && again.noise.length) report(job, cut.at, [`the tail: ${JSON.stringify(again.noise)}`]);
      const found = [];
      for (const difference of differences(whole, again, resized)) {
        if (found.length < SHOWN) found.push(difference);
      }
      if (found.length) report(job, cut.at, found);
      again.terminal.dispose();
    }
    whole.terminal.dispose();
  }
  process.exitCode = failed ? 1 : 0;
}

main();
