//! Whether what was typed at the prompt is complete, judged by its outside: brackets, quotes,
//! comments and, in Python, blocks. What is really wrong with it the interpreter says better.

use abide_model::Runtime;

/// Whether the text can be run, or a further line should be asked for.
pub(crate) fn is_complete(runtime: Runtime, text: &str) -> bool {
    match runtime {
        Runtime::Python => python_is_complete(text),
        Runtime::Node => node_is_open(text) == Open::Nothing,
    }
}

/// What is still open at the end of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Nothing,
    Something,
}

fn python_is_complete(text: &str) -> bool {
    let scan = scan_python(text);
    if scan.open == Open::Something {
        return false;
    }
    // A block ends with an empty line, as at Python's own prompt.
    !scan.has_block
        || text.ends_with('\n')
        || text.lines().last().is_some_and(|l| l.trim().is_empty())
}

struct PythonScan {
    open: Open,
    /// A logical line ends in a colon, or is a decorator.
    has_block: bool,
}

fn scan_python(text: &str) -> PythonScan {
    let chars: Vec<char> = text.chars().collect();
    let mut depth = 0usize;
    let mut has_block = false;
    let mut line_begins = true;
    let mut last = '\n';
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        match c {
            '#' => {
                while i + 1 < chars.len() && chars[i + 1] != '\n' {
                    i += 1;
                }
            }
            '"' | '\'' => {
                let triple = chars[i..].starts_with(&[c, c, c]);
                match skip_string(&chars, i, c, triple) {
                    Some(end) => i = end,
                    None if triple => {
                        return PythonScan {
                            open: Open::Something,
                            has_block,
                        };
                    }
                    // Not closed on its line: an error that the interpreter explains.
                    None => {
                        return PythonScan {
                            open: Open::Nothing,
                            has_block: false,
                        };
                    }
                }
                last = c;
            }
            '(' | '[' | '{' => (depth, last) = (depth + 1, c),
            ')' | ']' | '}' => (depth, last) = (depth.saturating_sub(1), c),
            '\\' if matches!(chars.get(i + 1), None | Some('\n')) => {
                if chars.len() <= i + 2 {
                    return PythonScan {
                        open: Open::Something,
                        has_block,
                    };
                }
                i += 1;
            }
            '\n' if depth == 0 => {
                has_block |= last == ':';
                line_begins = true;
                last = '\n';
            }
            '@' if line_begins && depth == 0 => (has_block, last) = (true, c),
            _ if !c.is_whitespace() => last = c,
            _ => {}
        }
        line_begins &= c.is_whitespace();
        i += 1;
    }
    let open = if depth > 0 {
        Open::Something
    } else {
        Open::Nothing
    };
    PythonScan {
        open,
        has_block: has_block || last == ':',
    }
}

/// Index of the last character of the string that begins at `start`; `None` when it has no end.
fn skip_string(chars: &[char], start: usize, quote: char, triple: bool) -> Option<usize> {
    let mut i = start + if triple { 3 } else { 1 };
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 1,
            '\n' if !triple => return None,
            c if c == quote && !triple => return Some(i),
            c if c == quote && chars[i..].starts_with(&[quote; 3]) => return Some(i + 2),
            _ => {}
        }
        i += 1;
    }
    None
}

fn node_is_open(text: &str) -> Open {
    let chars: Vec<char> = text.chars().collect();
    // Brackets that are open; a back quote stands for a template, `$` for a `${` inside of one.
    let mut stack: Vec<char> = Vec::new();
    let mut last = '\n';
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        if stack.last() == Some(&'`') {
            match c {
                '\\' => i += 1,
                '`' => {
                    stack.pop();
                    last = '`';
                }
                '$' if chars.get(i + 1) == Some(&'{') => {
                    stack.push('$');
                    last = '{';
                    i += 1;
                }
                _ => {}
            }
            i += 1;
            continue;
        }
        match c {
            '/' if chars.get(i + 1) == Some(&'/') => {
                while i + 1 < chars.len() && chars[i + 1] != '\n' {
                    i += 1;
                }
            }
            '/' if chars.get(i + 1) == Some(&'*') => {
                i += 2;
                while i < chars.len() && !chars[i..].starts_with(&['*', '/']) {
                    i += 1;
                }
                if i >= chars.len() {
                    return Open::Something;
                }
                i += 1;
            }
            // A slash where a value is expected begins a regular expression.
            '/' if "\n(,=:[!&|?{};+-*%<>~^".contains(last) => match skip_regex(&chars, i) {
                Some(end) => (i, last) = (end, '/'),
                None => return Open::Nothing,
            },
            '"' | '\'' => match skip_string(&chars, i, c, false) {
                Some(end) => (i, last) = (end, c),
                None => return Open::Nothing,
            },
            '`' | '(' | '[' | '{' => {
                stack.push(c);
                last = c;
            }
            ')' | ']' | '}' => {
                stack.pop();
                last = c;
            }
            _ if !c.is_whitespace() => last = c,
            _ => {}
        }
        i += 1;
    }
    if stack.is_empty() {
        Open::Nothing
    } else {
        Open::Something
    }
}

/// Index of the slash that ends a regular expression.
fn skip_regex(chars: &[char], start: usize) -> Option<usize> {
    let mut in_class = false;
    let mut i = start + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 1,
            '\n' => return None,
            '[' => in_class = true,
            ']' => in_class = false,
            '/' if !in_class => return Some(i),
            _ => {}
        }
        i += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python() {
        for text in [
            "",
            "x = 1",
            "x = (1,\n2)",
            "print('(')",
            "print(\"a # (\")  # (",
            "'''a\n('''",
            "def f():\n    return 1\n",
            "if x: pass\n",
            "for i in x:\n    pass\n\n",
            "x = 'not closed",
            "d = {1: 2}",
            "x[1:]",
            ")",
            "a \\\n + b",
            "lambda: 0",
        ] {
            assert!(is_complete(Runtime::Python, text), "{text:?}");
        }
        for text in [
            "x = (",
            "def f():",
            "def f():\n    return 1",
            "if x:  # why",
            "@cached",
            "@cached\ndef f():\n    pass",
            "'''a\n",
            "f(\"\"\"",
            "d = {\n 1: [2,",
            "a + \\",
            "class A:\n    '''doc'''",
        ] {
            assert!(!is_complete(Runtime::Python, text), "{text:?}");
        }
    }

    #[test]
    fn node() {
        for text in [
            "",
            "let x = 1",
            "function f() { return 1 }",
            "console.log('{')",
            "// {",
            "/* { */",
            "`a${ {b: 1}.b }c`",
            "`{`",
            "x = /[({]/.test('a')",
            "a / b / c",
            "'not closed",
            "}",
        ] {
            assert!(is_complete(Runtime::Node, text), "{text:?}");
        }
        for text in [
            "function f() {",
            "f(",
            "[1,",
            "`a",
            "`a${",
            "`a${b}",
            "/* a",
            "if (x) {\n}\nelse {",
        ] {
            assert!(!is_complete(Runtime::Node, text), "{text:?}");
        }
    }
}
