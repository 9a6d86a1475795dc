// What a `finished` frame says about values and errors.

'use strict';

const util = require('node:util');

const MAX_MESSAGE = 16 * 1024;
const MAX_TRACEBACK = 64 * 1024;
const MAX_SOURCES = 8 * 1024 * 1024;
const MAX_JSON_NODES = 100_000;
const HOME = __dirname;
// User code may replace them.
const { stringify } = JSON;

const sources = new Map();
let sourcesSize = 0;

function field(key, value) {
  const name = Buffer.from(key);
  const data = typeof value === 'string' ? Buffer.from(value) : value;
  const head = Buffer.alloc(5 + name.length);
  head[0] = name.length;
  name.copy(head, 1);
  head.writeUInt32LE(data.length, 1 + name.length);
  return Buffer.concat([head, data]);
}

function cut(text, limit) {
  const data = Buffer.from(text);
  if (data.length <= limit) return [data, false];
  while (limit > 0 && (data[limit] & 0xc0) === 0x80) limit--;
  return [data.subarray(0, limit), true];
}

/** Keeps a step's source for its errors; the oldest go first. */
function remember(name, code) {
  sources.set(name, code);
  sourcesSize += code.length;
  for (const [oldest, text] of sources) {
    if (sourcesSize <= MAX_SOURCES || sources.size === 1) break;
    sources.delete(oldest);
    sourcesSize -= text.length;
  }
}

/** {text, data fields, truncated} of a value, within what is left of the step's limit. */
function bundle(step, value) {
  const room = Math.max(step.limit - step.used, 0);
  let text;
  try {
    text = util.inspect(value, { depth: 4, maxStringLength: room });
  } catch (error) {
    text = `<${typeof value} whose inspection threw ${errorName(error)}>`;
  }
  const [shown, cutOff] = cut(text, room);
  let truncated = cutOff || (typeof value === 'string' && value.length > room);
  const data = [];
  step.used += shown.length;
  const add = (mime, form) => {
    const bytes = Buffer.from(form);
    if (step.used + bytes.length > step.limit) {
      truncated = true;
      return;
    }
    step.used += bytes.length;
    data.push(field('data', Buffer.concat([Buffer.from(`${mime}\0`), bytes])));
  };
  try {
    if (isPlainData(value)) add('application/json', stringify(value));
    const forms = value?.[Symbol.for('Jupyter.display')]?.();
    for (const [mime, form] of Object.entries(forms ?? {})) {
      if (Buffer.isBuffer(form) || form instanceof Uint8Array) {
        add(mime, Buffer.from(form).toString('base64'));
      } else {
        add(mime, typeof form === 'string' ? form : stringify(form));
      }
    }
  } catch (error) {
    process.stderr.write(`abide: the value's rich forms failed: ${errorName(error)}\n`);
  }
  return { text: shown, data, truncated };
}

/** Whether JSON says all there is to say about a value. */
function isPlainData(value) {
  let left = MAX_JSON_NODES;
  const inside = new Set();
  const plain = (item) => {
    if (left-- <= 0) return false;
    if (item === null || typeof item === 'string' || typeof item === 'boolean') return true;
    if (typeof item === 'number') return Number.isFinite(item) && !Object.is(item, -0);
    if (typeof item !== 'object' || util.types.isProxy(item) || inside.has(item)) return false;
    const prototype = Object.getPrototypeOf(item);
    const array = Array.isArray(item);
    if (array ? prototype !== Array.prototype : prototype !== Object.prototype && prototype !== null) {
      return false;
    }
    const keys = Object.keys(item);
    if (Object.getOwnPropertySymbols(item).length > 0 || (array && keys.length !== item.length)) {
      return false;
    }
    inside.add(item);
    const all = keys.every((key) => {
      const property = Object.getOwnPropertyDescriptor(item, key);
      return 'value' in property && key !== 'toJSON' && plain(property.value);
    });
    inside.delete(item);
    return all;
  };
  return plain(value);
}

function errorName(thrown) {
  try {
    if (util.types.isNativeError(thrown) || thrown instanceof Error) {
      return String(thrown.name || thrown.constructor?.name || 'Error');
    }
    return thrown !== null && typeof thrown === 'object'
      ? String(thrown.constructor?.name ?? 'Object')
      : typeof thrown;
  } catch {
    return 'Error';
  }
}

function describe(step, thrown, details) {
  let message;
  let trace;
  const isError = util.types.isNativeError(thrown) || thrown instanceof Error;
  try {
    message = isError ? String(thrown.message) : util.inspect(thrown);
    trace = traceback(step, thrown, details);
  } catch {
    message ??= '';
    trace = message;
  }
  if (thrown instanceof SyntaxError && /import statement|import\.meta|'export'|import call/.test(message)) {
    message += ' (in a step, write: const { name } = await import("module"))';
  }
  return [
    field('error_type', errorName(thrown)),
    field('error_message', cut(message, MAX_MESSAGE)[0]),
    field('traceback', cut(trace, MAX_TRACEBACK)[0]),
  ];
}

const OUR_FRAME = new RegExp(
  '^\\s+(?:at .*(?:node:(?:internal|inspector|net|vm|events|async_hooks)|\\babide:\\d)|' +
    '\\.\\.\\. \\d+ lines matching cause)',
);

/** The error as Node shows it, with the line of code it comes from, without our own frames. */
function traceback(step, thrown, details) {
  const lines = [];
  for (const line of util.inspect(thrown, { depth: 2 }).split('\n')) {
    if (!OUR_FRAME.test(line) && !(/^\s+at /.test(line) && line.includes(HOME))) lines.push(line);
    // The last frame's line also opens the list of the error's own properties.
    else if (line.endsWith(' {') && lines.length > 0) lines[lines.length - 1] += ' {';
  }
  let place = null;
  for (const line of lines) {
    place = /^\s+at .*?(<step-\d+>):(\d+):(\d+)/.exec(line)?.slice(1);
    if (place) break;
  }
  if (!place && details !== undefined && thrown instanceof SyntaxError) {
    place = [step.name, details.lineNumber + 1, details.columnNumber + 1];
  }
  const source = place && sources.get(place[0])?.split('\n')[place[1] - 1];
  if (source !== undefined && source !== null) {
    const shown = source.length > 200 ? `${source.slice(0, 200)} ...` : source;
    const caret = `${' '.repeat(Math.min(Math.max(place[2] - 1, 0), 204))}^`;
    lines.unshift(`${place[0]}:${place[1]}`, shown, caret, '');
  }
  return lines.join('\n');
}

module.exports = { bundle, describe, field, remember };
