// SPDX-License-Identifier: MIT OR Apache-2.0
//! The manual page of a configuration file, made of its annotated sample.

use std::io;
use std::path::Path;

use roff::{Inline, Roff, bold, italic, roman};

use crate::GeneratedFile;
use crate::release::{SUITE, VERSION};
use crate::sample::{Key, Sample, Table};

/// A page and its sources.
pub struct FilePage {
    /// Name of the page.
    name: &'static str,
    /// The file in `packaging/samples`.
    sample: &'static str,
    /// Files in `packaging/manual/sections` that follow the keys.
    sections: &'static [&'static str],
}

/// All pages of this kind.
pub const PAGES: [FilePage; 4] = [
    FilePage {
        name: "mytoken.toml",
        sample: "mytoken.toml",
        sections: &["file-form.man", "file-trust.man", "mytoken.toml.man"],
    },
    FilePage {
        name: "login.toml",
        sample: "login.toml",
        sections: &["login.toml-map.man", "file-form.man", "file-trust.man", "login.toml.man"],
    },
    FilePage {
        name: "jobs.toml",
        sample: "jobs.toml",
        sections: &["file-form.man", "file-trust.man", "jobs.toml.man"],
    },
    FilePage {
        name: "mytoken-ssh-config",
        sample: "config.toml",
        sections: &["file-form.man", "mytoken-ssh-config.man"],
    },
];

impl FilePage {
    /// The page.
    pub fn render(&self, date: &str) -> io::Result<GeneratedFile> {
        let sample = Sample::parse(&crate::read(Path::new("samples").join(self.sample))?)
            .map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, format!("samples/{}: {fault}", self.sample)))?;
        let mut roff = Roff::new();
        let source = format!("mytoken-suite {VERSION}");
        roff.control("TH", [self.name.to_uppercase().as_str(), "5", date, source.as_str(), SUITE]);
        roff.control("SH", ["NAME"]).text([roman(format!("{} - {}", self.name, sample.summary))]);
        let drop_ins = sample.place.replace(".toml", ".d/*.toml");
        roff.control("SH", ["SYNOPSIS"]).text([italic(sample.place.clone())]);
        roff.control("br", []).text([italic(drop_ins)]);
        roff.control("SH", ["DESCRIPTION"]).text(inlines(&format!("{}.", capitalised(&sample.summary))));
        if !sample.notes.is_empty() {
            roff.text(inlines(&sample.notes));
        }
        roff.control("SH", ["KEYS"]);
        for table in sample.tables.iter().filter(|table| !table.keys.is_empty()) {
            render_table(&mut roff, table);
        }
        let mut text = format!(".\\\" Made of packaging/samples/{}; see packaging/manual. Do not edit.\n", self.sample);
        text += &roff.render();
        for name in self.sections {
            text += &crate::read(Path::new("manual/sections").join(name))?;
        }
        Ok(GeneratedFile { path: Path::new("man").join(format!("{}.5", self.name)), text })
    }
}

fn render_table(roff: &mut Roff, table: &Table) {
    let heading = if table.heading.is_empty() { "Above all tables" } else { &table.heading };
    roff.control("SS", [heading]);
    if !table.text.is_empty() {
        roff.text(inlines(&table.text));
    }
    for key in &table.keys {
        render_key(roff, key);
    }
}

fn render_key(roff: &mut Roff, key: &Key) {
    let value = italic(key.value.clone());
    roff.control("TP", []);
    if key.is_default {
        roff.text([bold(&key.name), roman(" = "), value, roman(" (default)")]);
    } else {
        roff.text([bold(&key.name), roman(" = "), value, roman(" (example)")]);
    }
    roff.text(inlines(&key.text));
}

/// Text with code in backticks, which becomes bold.
fn inlines(text: &str) -> Vec<Inline> {
    text.split('`').enumerate().map(|(index, part)| if index % 2 == 0 { roman(part) } else { bold(part) }).collect()
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
