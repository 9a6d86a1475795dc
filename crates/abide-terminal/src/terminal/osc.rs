//! Operating system commands: title, links, colours.

use super::{MOST_TITLES, Terminal};

impl Terminal {
    /// An OSC with all it carries.
    pub(crate) fn command(&mut self, payload: &str) {
        let (number, rest) = payload.split_once(';').unwrap_or((payload, ""));
        match number.parse::<u16>() {
            Ok(0 | 2) => rest.clone_into(&mut self.title),
            Ok(8) => {
                if let Some(link) = self.links.open(rest) {
                    self.pen.link = link;
                    self.collect_links();
                }
            }
            Ok(number) => self.colours.command(number, rest),
            Err(_) => {}
        }
        self.printed = 0;
    }

    /// `CSI 22 t` and `CSI 23 t`: puts the title on a stack and takes it back.
    pub(super) fn stack_title(&mut self, push: bool) {
        if !push {
            if let Some(title) = self.titles.pop() {
                self.title = title;
            }
            return;
        }
        if self.titles.len() == MOST_TITLES {
            self.titles.remove(0);
        }
        self.titles.push(self.title.clone());
    }
}
