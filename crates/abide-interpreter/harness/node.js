// The Node harness: runs steps in the main context and speaks to Abide over a private channel.
//
// - Steps are evaluated in V8's REPL mode through an inspector session of this very thread:
//   `const`, `let` and `class` can be declared again, and `await` works at the top level.
// - SIGINT stops a busy loop, in a step and in a callback, with the help of a small worker thread
//   (see node_watcher.js). It starts when the interpreter is ready; the first step waits for it.
// - Nothing a step does ends the process by accident: `process.exit`, uncaught errors and
//   unhandled rejections end the running step.

'use strict';

const fs = require('node:fs');
const { Session } = require('node:inspector');
const Module = require('node:module');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { Writable } = require('node:stream');
const util = require('node:util');
const vm = require('node:vm');
const { promiseHooks } = require('node:v8');
const { IMPORT, rewrite } = require('./node_source.js');
const { bundle, describe, field, remember } = require('./node_values.js');
const watcher = require('./node_watcher.js');

const CHANNEL = 9;
const EXIT_NOT_CONFIGURED = 72;

const exitProcess = process.exit.bind(process);
const tick = process._tickCallback;
const now = setImmediate;
const fsWrite = fs.writeSync;
const fsRead = fs.readSync;
const pause = new Int32Array(new SharedArrayBuffer(4));

const channel = new net.Socket({ fd: CHANNEL, readable: true, writable: true });
let inspector = null;
let steps = 0;
let last = null; // the id of the last step
const waiting = []; // steps that have not begun
let running = null; // the step, until its `finished` is sent
let signalled = false; // SIGINT came since the last step began: perhaps for the next one
let interruptedId = null; // the step that the last `interrupt` frame names
let receive = null; // hands a remote object's value over
let stdinIsNull = true;

// --- frames ----------------------------------------------------------------------------------

function send(fields) {
  const payload = Buffer.concat(fields);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(payload.length);
  writeAll(CHANNEL, Buffer.concat([length, payload]));
}

/**
 * Writes in place, whatever it takes. Streams would do for everybody else; but an interrupt may
 * end any execution, also that of a stream's own code, which would then wait for ever.
 */
function writeAll(descriptor, bytes) {
  let at = 0;
  while (at < bytes.length) {
    try {
      at += fsWrite(descriptor, bytes, at);
    } catch (error) {
      if (error.code !== 'EAGAIN') {
        if (descriptor === CHANNEL) exitProcess(0);
        return;
      }
      Atomics.wait(pause, 0, 0, 1);
    }
  }
}

function parse(payload) {
  const fields = [];
  let at = 0;
  while (at < payload.length) {
    const start = at + 1 + payload[at];
    const end = start + 4 + payload.readUInt32LE(start);
    fields.push([payload.toString('latin1', at + 1, start), payload.toString('utf8', start + 4, end)]);
    at = end;
  }
  return fields;
}

let received = Buffer.alloc(0);
channel.on('data', (chunk) => {
  // Whatever is lost here is lost for good: the stream has given it away.
  watcher.hold(absorb);
  take(chunk);
  watcher.release();
});

function take(chunk) {
  received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
  while (received.length >= 4 && received.length >= 4 + received.readUInt32LE(0)) {
    const end = 4 + received.readUInt32LE(0);
    const fields = parse(received.subarray(4, end));
    received = received.subarray(end);
    const operation = fields[0]?.[1];
    if (operation === 'configure') configure(fields);
    // Only says which step is meant; the SIGINT that follows interrupts it.
    else if (operation === 'interrupt') interruptedId = fields[1]?.[1];
    // Not from within the stream's own callback: an interrupt would leave the stream confused.
    else if (operation === 'step') {
      const id = fields.find(([key]) => key === 'id')?.[1];
      // Written twice, since whoever wrote it first may have died before.
      if (id === last) continue;
      last = id;
      waiting.push(fields);
      now(begin);
    }
  }
}

/** Takes what the channel has at this moment, without waiting for the event loop. */
function takeNow() {
  const piece = Buffer.alloc(4096);
  try {
    for (let length; (length = fsRead(CHANNEL, piece)) > 0;) take(Buffer.from(piece.subarray(0, length)));
  } catch {
    // Nothing more. An end or an error is seen by the stream too.
  }
}

channel.on('error', () => exitProcess(0));
channel.on('close', () => exitProcess(0));

// --- a step ----------------------------------------------------------------------------------

function begin() {
  watcher.hold(absorb);
  const fields = waiting.shift();
  if (fields === undefined) return watcher.release();
  const step = {
    id: '', code: '', stdin: null, limit: 1 << 20, displays: [], used: 0, held: [],
    answered: false, stopping: false, done: false,
  };
  for (const [key, value] of fields) {
    if (key === 'id') step.id = value;
    else if (key === 'code') step.code = value;
    else if (key === 'stdin') step.stdin = value;
    else if (key === 'max_result_bytes') step.limit = Number(value);
  }
  running = step;
  step.name = `<step-${++steps}>`;
  remember(step.name, step.code);
  provideStdin(step.stdin);
  if (!process.listeners('SIGINT').includes(onInterrupt)) {
    process.on('SIGINT', onInterrupt);
    // The watcher alone has seen what came meanwhile.
    signalled = true;
  }
  // Nothing of a step runs before it can be stopped.
  const waited = watcher.wait();
  // SIGINTs that came before this step must not reach it by way of the watcher.
  if (signalled) watcher.settle();
  installScope();
  // One may have been for this step, come as it has before this or before the watcher: then its frame
  // is here by now.
  if (signalled || waited) takeNow();
  signalled = false;
  if (interruptedId === step.id) {
    stop(step);
    return;
  }
  evaluate(step);
  if (step.outcome?.[0] === 'completed') finish(step);
  else if (step.outcome !== undefined) finishSoon(step);
}

/** Finishes after pending signals and rejections have been seen: they belong to the step. */
function finishSoon(step) {
  now(() => finish(step));
}

/**
 * Evaluates, and runs what is due without waiting; a result is in `step.outcome` then.
 *
 * REPL mode makes a promise of a step that awaits, and the inspector answers when it is settled.
 * Were it collected instead, the inspector would answer from within the garbage collection, which
 * ends the process. So it is held as long as the session that waits for it.
 */
function evaluate(step) {
  const code = asExpression(rewrite(step.code));
  const parameters = {
    expression: `${code}\n//# sourceURL=${step.name}`,
    replMode: true, awaitPromise: true, objectGroup: 'step', silent: true,
  };
  let synchronous = true;
  watcher.release();
  const release = code.includes('await') && promiseHooks.onInit((promise) => {
    if (step.held.length < 4) step.held.push(promise);
  });
  inspector.post('Runtime.evaluate', parameters, (error, answer) => {
    step.answered = true;
    if (step.done || step.outcome !== undefined) return;
    if (error && /terminated/.test(error.message)) interrupted(step);
    else if (error) fail(step, new Error(`the step could not be evaluated: ${error.message}`));
    else if (answer.exceptionDetails) fail(step, valueOf(answer.result), answer.exceptionDetails);
    else complete(step, valueOf(answer.result));
    if (!synchronous) finishSoon(step);
  });
  if (release) release();
  try {
    tick();
  } catch (error) {
    onUncaught(error);
  }
  synchronous = false;
}

/** A new session, which waits for nothing. */
function connectInspector() {
  inspector?.disconnect();
  inspector = new Session();
  inspector.connect();
  receive = {};
  Object.defineProperty(globalThis, IMPORT, { value: receive, configurable: true });
  inspector.post('Runtime.evaluate', { expression: `globalThis.${IMPORT}` }, (error, answer) => {
    receive.id = answer.result.objectId;
  });
  installScope();
}

/** `{a: 1}` is an object, as people mean it, unless it only makes sense as a block. */
function asExpression(code) {
  if (!/^\s*\{/.test(code) || /;\s*$/.test(code)) return code;
  const wrapped = `(${code}\n)`;
  try {
    new vm.Script(`async () => ${wrapped}`);
    return wrapped;
  } catch {
    return code;
  }
}

/** The value behind a remote object. */
function valueOf(remote) {
  if (remote.objectId !== undefined) {
    let value;
    receive.take = (taken) => { value = taken; };
    inspector.post('Runtime.callFunctionOn', {
      objectId: receive.id,
      functionDeclaration: 'function (value) { this.take(value); }',
      arguments: [{ objectId: remote.objectId }],
      silent: true,
    });
    receive.take = null;
    return value;
  }
  const special = remote.unserializableValue;
  if (special !== undefined) {
    return remote.type === 'bigint' ? BigInt(special.slice(0, -1)) : Number(special);
  }
  if (remote.subtype === 'null') return null;
  return remote.value;
}

function complete(step, value) {
  if (value === undefined) {
    step.outcome ??= ['completed', []];
    return;
  }
  Object.defineProperty(globalThis, '_', {
    value, writable: true, configurable: true, enumerable: false,
  });
  const { text, data, truncated } = bundle(step, value);
  data.push(field('text', text));
  if (truncated) data.push(field('truncated', '1'));
  step.outcome ??= ['completed', data];
}

function fail(step, thrown, details) {
  step.outcome = ['error', describe(step, thrown, details)];
}

function interrupted(step) {
  step.outcome = ['interrupted', [
    field('error_type', 'Interrupted'),
    field('error_message', 'the step was interrupted'),
    field('traceback', ''),
  ]];
}

function finish(step) {
  if (step.done) return;
  watcher.hold(absorb);
  const [status, parts] = step.outcome;
  send([
    field('op', 'finished'), field('id', step.id), field('status', status), ...parts,
    ...step.displays,
  ]);
  // Not before: see `recover`.
  step.done = true;
  if (running === step) running = null;
  if (step.answered) {
    inspector.post('Runtime.releaseObjectGroup', { objectGroup: 'step' });
    inspector.post('Runtime.discardConsoleEntries');
  } else {
    connectInspector();
  }
  step.held.length = 0;
  watcher.release();
}

/** Shows values as rich outputs of the running step. */
function display(...values) {
  for (const value of values) {
    if (running === null) {
      console.log(value);
      continue;
    }
    const { text, data, truncated } = bundle(running, value);
    if (truncated) running.displays.push(field('truncated', '1'));
    data.push(field('data', Buffer.concat([Buffer.from('text/plain\0'), text])));
    running.displays.push(field('display', Buffer.concat(data)));
  }
}

// --- errors ----------------------------------------------------------------------------------

/** Uncaught errors and unhandled rejections, from wherever they come. */
function onUncaught(thrown) {
  if (thrown instanceof Interruption) return;
  if (process.listenerCount('uncaughtException') > 0) {
    process.emit('uncaughtException', thrown, 'uncaughtException');
    return;
  }
  const step = running;
  if (step === null) {
    if (thrown instanceof Exit) return;
    process.stderr.write(`Uncaught, between steps: ${util.inspect(thrown)}\n`);
    return;
  }
  fail(step, thrown);
  finishSoon(step);
}
process.setUncaughtExceptionCaptureCallback(onUncaught);

/** What `process.exit` throws, to leave the code that called it. */
class Exit extends Error {}
Object.defineProperty(Exit.prototype, 'name', { value: 'ProcessExit' });
class Interruption extends Error {}

process.exit = function exit(code) {
  const status = code ?? process.exitCode ?? 0;
  process.exitCode = undefined;
  const error = new Exit(`process.exit(${status}) ends the step, not the interpreter`);
  const step = running;
  if (step === null) {
    process.stderr.write(`abide: process.exit(${status}) between steps does nothing\n`);
  } else {
    fail(step, error);
    finishSoon(step);
  }
  throw error;
};

/** Is ended instead of what the harness does: the inspector confines the end to what it calls. */
function absorb(spin) {
  receive.spin = spin;
  inspector.post('Runtime.callFunctionOn', {
    objectId: receive.id, functionDeclaration: 'function () { this.spin(); }', silent: true,
  });
}

// --- interrupts ------------------------------------------------------------------------------

function onInterrupt() {
  signalled = true;
  if (running !== null) stop(running);
}

function stop(step) {
  step.stopping = true;
  interrupted(step);
  finish(step);
}

/**
 * The watcher asks whether this thread is alive because of a SIGINT that this thread may not have
 * seen yet. Who answers is left alone from then on, so the signal's frame is read first.
 */
function onQuestion(question) {
  watcher.answer(question);
  recover();
}

/**
 * What the watcher has ended may have been the harness on its way to `watcher.hold`: with a step that
 * was about to begin or to be stopped, or with its interrupt in hand.
 */
function recover() {
  watcher.hold(absorb);
  takeNow();
  watcher.release();
  waiting.forEach(() => now(begin));
  const step = running;
  if (step !== null && (step.stopping || interruptedId === step.id)) stop(step);
}

// --- what a step sees ------------------------------------------------------------------------

let scope = { directory: null };

/** `require` and `import()` resolve from the current directory. */
function installScope() {
  let directory = scope.directory;
  try {
    directory = process.cwd();
  } catch {
    // The directory is gone; what was resolved from it still is.
  }
  if (directory !== scope.directory) {
    const filename = path.join(directory, '[step]');
    const module = new Module(filename, null);
    module.filename = filename;
    module.paths = Module._nodeModulePaths(directory);
    module._compile(
      'exports.scope = { require, importModule: (name, options) => import(name, options) };',
      filename,
    );
    scope = { directory, filename, module, ...module.exports.scope };
    module.exports = {};
    module.loaded = true;
    for (const [name, value] of Object.entries({
      require: scope.require, module, exports: module.exports,
      __filename: filename, __dirname: directory,
    })) {
      Object.defineProperty(globalThis, name, {
        value, writable: true, configurable: true, enumerable: false,
      });
    }
  }
  Object.defineProperty(globalThis, IMPORT, {
    value: scope.importModule, writable: true, configurable: true, enumerable: false,
  });
}

/** Built-in modules by their names, as in Node's own REPL. */
function installBuiltins() {
  for (const name of Module.builtinModules) {
    if (/^_|[/:]/.test(name) || name in globalThis) continue;
    const set = (value) => Object.defineProperty(globalThis, name, {
      value, writable: true, configurable: true, enumerable: false,
    });
    Object.defineProperty(globalThis, name, {
      get() {
        const value = require(name);
        set(value);
        return value;
      },
      set, configurable: true, enumerable: false,
    });
  }
  Object.defineProperty(globalThis, 'display', {
    value: display, writable: true, configurable: true, enumerable: false,
  });
}

/** process.stdout and process.stderr; see `writeAll`. */
class Output extends Writable {
  constructor(descriptor) {
    super({ decodeStrings: false });
    this.fd = descriptor;
    this._type = 'pipe';
    this._isStdio = true;
  }

  write(chunk, encoding, callback) {
    if (typeof encoding === 'function') [encoding, callback] = [undefined, encoding];
    if (typeof chunk === 'string') chunk = Buffer.from(chunk, encoding);
    else if (!ArrayBuffer.isView(chunk)) throw new TypeError('write() takes a string or bytes');
    writeAll(this.fd, chunk);
    if (typeof callback === 'function') process.nextTick(callback, null);
    return true;
  }

  end(chunk, encoding, callback) {
    if (typeof chunk === 'function') chunk();
    else if (chunk !== undefined && chunk !== null) this.write(chunk, encoding, callback);
    return this;
  }

  destroy() {
    return this;
  }
}

/** Descriptor 0 and process.stdin read `text`, or nothing. */
function provideStdin(text) {
  if (text === null && stdinIsNull) return;
  stdinIsNull = text === null;
  let file = '/dev/null';
  if (text !== null) {
    file = path.join(os.tmpdir(), `.abide-stdin-${process.pid}-${steps}`);
    fs.writeFileSync(file, text, { mode: 0o600, flag: 'wx' });
  }
  // The lowest free descriptor is the one that was just closed.
  try {
    fs.closeSync(0);
  } catch {
    // A step has closed it.
  }
  fs.openSync(file, 'r');
  if (text !== null) fs.unlinkSync(file);
  let stream = null;
  Object.defineProperty(process, 'stdin', {
    get: () => (stream ??= fs.createReadStream(null, { fd: 0, autoClose: false })),
    configurable: true, enumerable: true,
  });
}

function configure(fields) {
  const environment = [];
  let directory = null;
  for (const [key, value] of fields) {
    if (key === 'cwd') directory = value;
    else if (key === 'env') environment.push([value.split('=', 1)[0], value]);
  }
  for (const name of Object.keys(process.env)) delete process.env[name];
  for (const [name, value] of environment) process.env[name] = value.slice(name.length + 1);
  if (process.env.NODE_PATH) Module._initPaths();
  if (directory !== null) {
    try {
      process.chdir(directory);
    } catch (error) {
      process.stderr.write(`abide: cannot enter the workspace: ${error.message}\n`);
      exitProcess(EXIT_NOT_CONFIGURED);
    }
  }
  installScope();
}

// --- start -----------------------------------------------------------------------------------

process.argv.length = 1;
for (const [name, descriptor] of [['stdout', 1], ['stderr', 2]]) {
  const value = new Output(descriptor);
  Object.defineProperty(process, name, { value, configurable: true, enumerable: true, writable: true });
}
process.on('SIGINT', onInterrupt);
installScope();
installBuiltins();
connectInspector();
send([
  field('op', 'ready'), field('version', process.versions.node), field('pid', String(process.pid)),
]);
watcher.start(onQuestion, recover);
