// Prints the width of every code point from U+00A0 on as xterm.js has it with Unicode 11, as a digit each.
'use strict';

const { Terminal } = require('@xterm/headless');
const { Unicode11Addon } = require('@xterm/addon-unicode11');

const terminal = new Terminal({ allowProposedApi: true });
terminal.loadAddon(new Unicode11Addon());
terminal.unicode.activeVersion = '11';
const widths = [];
for (let code = 0xa0; code <= 0x10ffff; code++) widths.push(terminal._core.unicodeService.wcwidth(code));
process.stdout.write(widths.join(''));
