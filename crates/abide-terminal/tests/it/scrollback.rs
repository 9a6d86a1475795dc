//! Lines that have scrolled off: how many are kept, and what is handed out of them.

use abide_terminal::{Screen, ScrollbackLimit, Size};

const LIMIT: usize = 300_000;

/// A screen that has printed so many numbered lines, every third of them longer than it is wide.
fn screen(lines: usize) -> Screen {
    let mut screen = Screen::new(Size::new(40, 5).unwrap(), ScrollbackLimit(LIMIT), 0);
    for line in 0..lines {
        let text = "long ".repeat(if line % 3 == 0 { 12 } else { 1 });
        screen.feed(format!("\x1b[3{}m{line}\x1b[0m {text}\r\n", line % 8).as_bytes());
    }
    screen
}

#[test]
fn as_much_is_kept_as_the_limit_allows() {
    for lines in [20_000, 60_000] {
        let kept = screen(lines).scrollback(usize::MAX);
        assert!(kept.len() < LIMIT, "{}", kept.len());
        assert!(kept.len() > LIMIT / 2, "{}", kept.len());
        let last = format!("{}\x1b[0m long ", lines - 4);
        let text = String::from_utf8(kept).unwrap();
        assert!(text.ends_with(&last), "{:?}", &text[text.len() - 40..]);
    }
}

#[test]
fn no_more_is_handed_out_than_asked_for() {
    let screen = screen(3000);
    let whole = screen.scrollback(usize::MAX);
    for most in [0, 1, 100, 5_000, 70_000, whole.len(), usize::MAX] {
        let part = screen.scrollback(most);
        assert!(part.len() <= most, "{} of {most}", part.len());
        assert!(whole.ends_with(&part), "{most}");
        let missing = most.min(whole.len()) - part.len();
        // A line more, and two bytes for each line break that a wrapped line does without.
        assert!(
            missing < 120 + part.len() / 30,
            "{missing} of {most} bytes are missing"
        );
    }
}

#[test]
fn a_line_that_was_wrapped_is_one_line() {
    let scrollback = String::from_utf8(screen(100).scrollback(usize::MAX)).unwrap();
    let lines: Vec<&str> = scrollback.split("\r\n").collect();
    assert_eq!(
        lines[33],
        format!("\x1b[31m33\x1b[0m {}", "long ".repeat(12))
    );
    assert_eq!(lines[34], "\x1b[32m34\x1b[0m long ");
}

#[test]
fn what_is_cleared_is_gone() {
    let mut screen = screen(100);
    screen.feed(b"\x1b[3J");
    assert_eq!(screen.scrollback(usize::MAX), b"");
    let mut screen = self::screen(100);
    screen.feed(b"\x1bc");
    assert_eq!(screen.scrollback(usize::MAX), b"");
    assert_eq!(screen.text(), "");
}

#[test]
fn nothing_of_the_alternate_buffer_is_kept() {
    let mut screen = screen(0);
    screen.feed(b"\x1b[?1049h");
    screen.feed("not kept\r\n".repeat(50).as_bytes());
    assert_eq!(screen.scrollback(usize::MAX), b"");
}

#[test]
fn lines_of_another_width_are_the_same_lines() {
    let mut lines = Vec::new();
    let mut output = String::new();
    for index in 0..60 {
        let (text, drawn) = match index % 4 {
            0 => (format!("{index} {}", "漢字🦀x".repeat(15)), None),
            1 => (
                format!("{index}{}y", " ".repeat(25)),
                Some(format!("{index}\x1b[25Cy")),
            ),
            2 => (format!("{index} {}", "long ".repeat(20).trim_end()), None),
            _ => (index.to_string(), Some(format!("\x1b[44m{index}\x1b[0m"))),
        };
        output.push_str(drawn.as_deref().unwrap_or(&text));
        output.push_str("\r\n");
        lines.push(text);
    }
    for widths in [&[40][..], &[23], &[90], &[31, 70, 40]] {
        let mut screen = Screen::new(Size::new(40, 5).unwrap(), ScrollbackLimit(LIMIT), 0);
        screen.feed(output.as_bytes());
        for cols in widths {
            screen.resize(Size::new(*cols, 5).unwrap());
        }
        // Unwrapped where it can be read.
        let size = Size::new(screen.size().cols(), 400).unwrap();
        let mut viewer = Screen::new(size, ScrollbackLimit(LIMIT), 0);
        viewer.feed(&screen.scrollback(usize::MAX));
        viewer.feed(b"\r\n");
        viewer.resize(Size::new(400, 400).unwrap());
        let text = viewer.text();
        // The last is partly on the screen.
        let shown: Vec<&str> = text.lines().collect();
        let whole = shown.len() - 1;
        assert!(whole > 50, "{whole} lines at {widths:?}");
        assert_eq!(shown[..whole], lines[..whole], "{widths:?}");
    }
}
