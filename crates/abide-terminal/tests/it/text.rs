//! What readers get: text, with looks or without.

use abide_terminal::{Cursor, Screen, Size};

use crate::recording::PLENTY;

fn screen(output: &str) -> Screen {
    let mut screen = Screen::new(Size::new(20, 4).unwrap(), PLENTY, 0);
    screen.feed(output.as_bytes());
    screen
}

fn check(output: &str, text: &str, ansi: &str) {
    let screen = screen(output);
    assert_eq!(screen.text(), text, "{output:?}");
    assert_eq!(screen.ansi(), ansi, "{output:?}");
}

#[test]
fn blanks_at_the_ends_are_left_out() {
    check("", "", "");
    check("a  \r\n\r\n b \x1b[5Cc", "a\n\n b      c", "a\n\n b      c");
    check("gone\r\n1\r\n2\r\n3\r\n4", "1\n2\n3\n4", "1\n2\n3\n4");
    check("漢字🦀e\u{301}", "漢字🦀e\u{301}", "漢字🦀e\u{301}");
}

#[test]
fn looks_and_links_are_told_and_ended() {
    check("\x1b[31mred\x1b[0m   ", "red", "\x1b[31mred\x1b[0m");
    check(
        "\x1b[1mtwo\r\nlines",
        "two\nlines",
        "\x1b[1mtwo\x1b[0m\n\x1b[1mlines\x1b[0m",
    );
    check("\x1b[44m  \x1b[0m", "", "\x1b[44m  \x1b[0m");
    check(
        "\x1b]8;;https://example.org\x1b\\here\x1b]8;;\x1b\\",
        "here",
        "\x1b]8;;https://example.org\x1b\\here\x1b]8;;\x1b\\",
    );
}

#[test]
fn the_buffer_in_use_is_read() {
    check("main\x1b[?1049h\x1b[Halternate", "alternate", "alternate");
    check("main\x1b[?1049h\x1b[Halternate\x1b[?1049l", "main", "main");
}

#[test]
fn title_and_cursor_are_known() {
    let screen =
        screen("\x1b]0;first\x07\x1b[22t\x1b]2;second — \u{1f980}\x1b\\\x1b[2;5H\x1b[?25l");
    assert_eq!(screen.title(), Some("second — 🦀"));
    let cursor = Cursor {
        col: 4,
        row: 1,
        visible: false,
    };
    assert_eq!(screen.cursor(), cursor);
}
