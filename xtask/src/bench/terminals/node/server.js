// The usual terminal server of Node: node-pty with ws. With the argument `screen` it keeps a screen as VS Code's pty host
// does, a headless xterm.js that it waits for, and sends what that amounts to whoever attaches.
//
// `/new` starts what its first message says and shows it; `/attach?history=n` shows the newest again.
'use strict';
const { spawn } = require('@lydell/node-pty');
const { WebSocketServer } = require('ws');
const { Terminal } = require('@xterm/headless');
const { SerializeAddon } = require('@xterm/addon-serialize');

const keepsScreen = process.argv[2] === 'screen';
const size = { cols: 80, rows: 24 };
// Characters that the screen may be behind, and where the program goes on again: VS Code's figures.
const [HIGH, LOW] = [100_000, 5_000];
let newest;

function start(command) {
  const pty = spawn(command[0], command.slice(1), { ...size, name: 'xterm-256color', env: process.env });
  const terminal = { pty, viewers: new Set() };
  let behind = 0;
  if (keepsScreen) {
    terminal.screen = new Terminal({ ...size, scrollback: 10_000, allowProposedApi: true });
    terminal.serializer = new SerializeAddon();
    terminal.screen.loadAddon(terminal.serializer);
  }
  pty.onData((data) => {
    for (const viewer of terminal.viewers) viewer.send(data);
    if (!keepsScreen) return;
    behind += data.length;
    if (behind > HIGH) pty.pause();
    terminal.screen.write(data, () => {
      const wasHigh = behind > LOW;
      behind -= data.length;
      if (wasHigh && behind <= LOW) pty.resume();
    });
  });
  pty.onExit(() => terminal.viewers.forEach((viewer) => viewer.close()));
  return terminal;
}

function show(terminal, viewer) {
  terminal.viewers.add(viewer);
  viewer.on('message', (data) => terminal.pty.write(data.toString()));
  viewer.on('close', () => {
    terminal.viewers.delete(viewer);
    if (!keepsScreen) terminal.pty.kill();
  });
}

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
server.on('listening', () => console.log(server.address().port));
server.on('connection', (viewer, request) => {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  if (pathname === '/new') {
    viewer.once('message', (data) => {
      newest = start(JSON.parse(data));
      show(newest, viewer);
    });
    return;
  }
  const terminal = newest;
  // Behind all output that the screen has not seen yet.
  terminal.screen.write('', () => {
    viewer.send(terminal.serializer.serialize({ scrollback: Number(searchParams.get('history')) }));
    show(terminal, viewer);
  });
});
// It ends with whoever started it.
process.stdin.on('end', () => process.exit()).resume();
