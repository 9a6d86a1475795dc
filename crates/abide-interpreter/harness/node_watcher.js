// The thread that helps to stop what keeps the main thread busy. Part of the Node harness; see node.js.

'use strict';

const os = require('node:os');
const { Worker } = require('node:worker_threads');

// Shared with the thread: whether it is ready, how many SIGINTs it has seen, up to which of them it
// need not act any more, who may end what the main thread does, how often the harness was at work
// there, and up to which call of `settle` it has done what was due.
const [READY, SEEN, ANSWERED, TURN, WORKED, SETTLED] = [0, 1, 2, 3, 4, 5];
// TURN: user code may be ended, the harness is at work, something is about to be ended.
const [USER, HARNESS, ENDING] = [0, 1, 2];
let worker = null;
const watch = new Int32Array(new SharedArrayBuffer(24));

// Runs in its own thread. On SIGINT it asks the main thread for a sign of life. A thread that
// uses up processor time without answering is busy in a callback, whose execution is then ended.
// Time on the clock alone proves nothing: on a loaded machine an idle thread answers late, and
// what would be ended is whatever it does next. (Should it become idle just then, that is the
// empty message sent behind. Once something was ended, another one lets the harness see to it that
// nothing is missing.)
const WATCHER = `
process.noDeprecation = true;
const fs = require('node:fs');
const { parentPort, workerData } = require('node:worker_threads');
const { Session } = require('node:inspector');
const session = new Session();
session.connectToMainThread();
const watch = new Int32Array(workerData);
const [READY, SEEN, ANSWERED, TURN, WORKED, SETTLED] = [0, 1, 2, 3, 4, 5];
const [USER, HARNESS, ENDING] = [0, 1, 2];
let signals;
try {
  signals = process.binding('signal_wrap');
} catch {
  // Node 26 no longer has it there.
  signals = require('internal/test/binding').internalBinding('signal_wrap');
}
const signal = new signals.Signal();
const usage = '/proc/self/task/' + process.pid + '/schedstat';
const used = () => {
  try {
    return parseInt(fs.readFileSync(usage, 'latin1')) / 1e6;
  } catch {
    return 0;
  }
};
signal.onsignal = () => {
  const question = Atomics.add(watch, SEEN, 1) + 1;
  let [before, start, worked] = [used(), Date.now(), Atomics.load(watch, WORKED)];
  parentPort.postMessage(question);
  const look = () => {
    if (Atomics.load(watch, ANSWERED) >= question) return;
    const since = worked;
    worked = Atomics.load(watch, WORKED);
    // The harness at work is a sign of life, too.
    if (worked !== since) [before, start] = [used(), Date.now()];
    const idle = used() - before < 15 && Date.now() - start < 1000;
    if (idle || Atomics.compareExchange(watch, TURN, USER, ENDING) !== USER) {
      setTimeout(look, 5);
      return;
    }
    const recover = () => parentPort.postMessage(0);
    session.post('Runtime.terminateExecution', () => {
      Atomics.compareExchange(watch, TURN, ENDING, USER);
      recover();
    });
    setImmediate(recover);
  };
  setTimeout(look, 5);
};
parentPort.on('message', (call) => {
  // Once it has looked for signals, too.
  setImmediate(() => {
    Atomics.store(watch, SETTLED, call);
    Atomics.notify(watch, SETTLED);
  });
});
signal.start(${os.constants.signals.SIGINT});
Atomics.store(watch, READY, 1);
Atomics.notify(watch, READY);
`;

/**
 * `ask` is called for each SIGINT that the thread has seen, with its number, to answer it; `recover`
 * when it has ended something.
 */
function start(ask, recover) {
  worker = new Worker(WATCHER, {
    eval: true, workerData: watch.buffer, env: {}, argv: [],
    // For this thread alone; what is internal warns of being so.
    execArgv: ['--expose-internals', '--no-warnings'],
    resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 2 },
  });
  worker.on('message', (question) => {
    if (question > 0) ask(question);
    else recover();
  });
  worker.on('error', (error) => process.stderr.write(`abide: no watcher: ${error.message}\n`));
  worker.unref();
}

/** Until it is ready. `true` when that took waiting. */
function wait() {
  if (Atomics.load(watch, READY) !== 0) return false;
  Atomics.wait(watch, READY, 0, 2000);
  return true;
}

/** It need not act on this SIGINT, nor on those before it. */
function answer(question) {
  if (Atomics.load(watch, ANSWERED) < question) Atomics.store(watch, ANSWERED, question);
}

/** Waits until it has seen every SIGINT that has come so far, and answers them. */
function settle() {
  const before = Atomics.load(watch, SETTLED);
  worker.postMessage(before + 1);
  Atomics.wait(watch, SETTLED, before, 2000);
  answer(Atomics.load(watch, SEEN));
}

/**
 * Nothing is ended from here to `release`. `absorb` is called to let itself be ended, if it is too
 * late to prevent that; it is given what to do meanwhile.
 */
function hold(absorb) {
  const ending = Atomics.compareExchange(watch, TURN, USER, HARNESS) === ENDING;
  if (ending) absorb(() => { while (Atomics.load(watch, TURN) === ENDING); });
  Atomics.store(watch, TURN, HARNESS);
}

function release() {
  Atomics.add(watch, WORKED, 1);
  Atomics.store(watch, TURN, USER);
}

module.exports = { answer, hold, release, settle, start, wait };
