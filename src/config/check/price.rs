//! The key `prices`: files of prices, read at load.

use super::Checker;
use crate::config::prices::{self, Prices, Unpriced};
use crate::config::raw;

impl Checker<'_> {
    pub(super) fn prices(&mut self, typed: Option<raw::Prices>) -> (Prices, Unpriced) {
        let typed = typed.unwrap_or_default();
        let mut tables = Vec::new();
        for (n, at) in typed.files.iter().flatten().enumerate() {
            let path = format!("prices.files[{n}]");
            let file = self.path(&at.value);
            let bytes = match prices::read_bytes(&file) {
                Ok(bytes) => bytes,
                Err(why) => {
                    let message = format!("{path}: {} {why} (paths begin at this file's folder)", at.quoted());
                    self.faults.wrong(at.place, path, message);
                    continue;
                }
            };
            self.files.push(file);
            match prices::read(&bytes, &at.value) {
                Ok(table) => tables.push(table),
                Err(errors) => self.faults.others(errors),
            }
        }
        let unpriced = match typed.unpriced {
            None | Some(raw::Unpriced::Allow) => Unpriced::Allow,
            Some(raw::Unpriced::Warn) => Unpriced::Warn,
            Some(raw::Unpriced::Refuse) => Unpriced::Refuse,
        };
        (Prices::new(tables), unpriced)
    }
}
