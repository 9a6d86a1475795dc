// Rewrites what a script may not contain but a step may: `import()` calls, static imports and
// export declarations. Everything else is left as it is, lines and columns included.

'use strict';

// Stands for `import` in a rewritten `import()`: same length, and nobody's own name.
const IMPORT = '\u026amport';

const REGEX_AFTER = new Set([
  'return', 'typeof', 'case', 'in', 'of', 'delete', 'void', 'throw', 'new', 'instanceof', 'else',
  'do', 'await', 'yield',
]);
const WORD = /[\p{ID_Start}$_\\][\p{ID_Continue}$\u200c\u200d\\{}]*/uy;
const NUMBER = /\.?\d(?:[eE][+-]|[\w.])*/y;
const REGEX = /\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n])+\/\w*/y;
const NAME = '[\\p{ID_Start}$_][\\p{ID_Continue}$]*';
const STATIC = new RegExp(
  `import\\s*(?:(?:(${NAME})\\s*(?:,\\s*)?)?(?:\\*\\s*as\\s+(${NAME})\\s+|\\{([^}]*)\\}\\s*)?\\bfrom\\s*)?` +
    '(?:"([^"\\n]*)"|\'([^\'\\n]*)\')(?:\\s*(?:with|assert)\\s*(\\{[^}]*\\}))?',
  'uy',
);
const EXPORT = /export(?=\s+(?:const|let|var|class|function|async)\b)/y;

/** Finds the words `import` and `export` that are code, and calls `found` for each. */
function scan(code, found) {
  const braces = []; // true: a template's `${`, false: an ordinary bracket
  let at = 0;
  let last = ''; // the token before, '' at the start
  let newline = true; // a line break (or the start) since that token
  const take = (pattern) => {
    pattern.lastIndex = at;
    const match = pattern.exec(code);
    return match === null ? '' : match[0];
  };
  const template = () => {
    while (at < code.length) {
      const c = code[at];
      if (c === '\\') at += 2;
      else if (c === '`') return void at++;
      else if (c === '$' && code[at + 1] === '{') return braces.push(true), void (at += 2);
      else at++;
    }
  };
  while (at < code.length) {
    const c = code[at];
    const next = code[at + 1];
    if (c === '\n' || c === '\r' || c === '\u2028' || c === '\u2029') {
      newline = true;
      at++;
    } else if (c <= ' ' || c === '\ufeff' || c === '\u00a0') {
      at++;
    } else if (c === '/' && next === '/') {
      const end = code.indexOf('\n', at);
      at = end < 0 ? code.length : end;
    } else if (c === '/' && next === '*') {
      const end = code.indexOf('*/', at + 2);
      if (end < 0) return;
      newline ||= code.slice(at, end).includes('\n');
      at = end + 2;
    } else if (c === '"' || c === "'") {
      at++;
      while (at < code.length && code[at] !== c && code[at] !== '\n') {
        at += code[at] === '\\' ? 2 : 1;
      }
      at++;
      last = c;
      newline = false;
    } else if (c === '`') {
      at++;
      template();
      last = '`';
      newline = false;
    } else {
      let token;
      if (c === '/' && (last === '' || REGEX_AFTER.has(last) || /^[^\w$"'`)\]}]/.test(last))) {
        token = take(REGEX);
      }
      token ||= take(WORD) || take(NUMBER) || c;
      if (token === 'import' || token === 'export') {
        const start = braces.length === 0 && (newline || last === '' || last === ';' || last === '}');
        const skip = last === '.' ? 0 : found(token, at, start);
        if (skip > 0) {
          at += skip;
          last = ')';
          newline = false;
          continue;
        }
      }
      at += token.length;
      newline = false;
      last = token;
      if (c === '(' || c === '[' || c === '{') {
        braces.push(false);
      } else if (c === ')' || c === ']') {
        braces.pop();
      } else if (c === '}' && braces.pop()) {
        template();
        last = '`';
      }
    }
  }
}

/** `import d, {a as b} from "m"` as a declaration with `await`, on as many lines. */
function declaration(match) {
  const [text, name, all, list, double, single, options] = match;
  const module = JSON.stringify(double ?? single);
  const call = `await ${IMPORT}(${module}${options ? `, { with: ${options} }` : ''})`;
  const lines = '\n'.repeat(text.split('\n').length - 1);
  const names = [];
  if (name !== undefined) names.push(`default: ${name}`);
  if (list !== undefined) {
    for (const item of list.replace(/\/\/.*|\/\*[^]*?\*\//g, '').split(',')) {
      if (item.trim() !== '') names.push(item.trim().replace(/\s+as\s+/u, ': '));
    }
  }
  let code = call;
  if (all !== undefined) {
    code = `const ${all} = ${call}`;
    if (names.length > 0) code += `, { ${names.join(', ')} } = ${all}`;
  } else if (name !== undefined || list !== undefined) {
    code = `const { ${names.join(', ')} } = ${call}`;
  }
  return `${code};${lines}`;
}

/** Whether this is not a call but the definition of a method called `import`. */
function isMethod(code, at) {
  let depth = 0;
  do {
    at = code.slice(at).search(/[()]/) + at;
    depth += code[at] === '(' ? 1 : -1;
    at++;
  } while (depth > 0 && /[()]/.test(code.slice(at)));
  return /^\s*\{/.test(code.slice(at, at + 40));
}

/** The code to run in place of a step's code. */
function rewrite(code) {
  if (!code.includes('import') && !code.includes('export')) return code;
  const parts = [];
  let done = 0;
  const replace = (at, length, text) => {
    parts.push(code.slice(done, at), text);
    done = at + length;
    return length;
  };
  scan(code, (word, at, start) => {
    if (word === 'export') {
      EXPORT.lastIndex = at;
      return start && EXPORT.test(code) ? replace(at, 6, '      ') : 0;
    }
    if (/^import\s*\(/.test(code.slice(at, at + 40))) {
      return isMethod(code, at) ? 0 : replace(at, 6, IMPORT);
    }
    if (!start) return 0;
    STATIC.lastIndex = at;
    const match = STATIC.exec(code);
    if (match === null) return 0;
    let length = match[0].length;
    if (code[at + length] === ';') length += 1;
    return replace(at, length, declaration(match));
  });
  parts.push(code.slice(done));
  return parts.join('');
}

module.exports = { IMPORT, rewrite };
