// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads an annotated sample of a configuration file. Its comments are the text of the manual page; tests of the crates compare its
//! keys and defaults with the code.

/// A sample.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Where the file is installed.
    pub place: String,
    /// What the file is for.
    pub summary: String,
    /// The rest of the first paragraph.
    pub notes: String,
    /// The tables, the first of them without a heading.
    pub tables: Vec<Table>,
}

/// A table.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// `[prompt]` or `[[rule]]`; empty for the keys above all tables.
    pub heading: String,
    /// What it is for.
    pub text: String,
    /// Its keys.
    pub keys: Vec<Key>,
}

/// A key.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// The value in the sample, in TOML.
    pub value: String,
    /// Whether the value is the default. Otherwise it is an example, and there is no default, or the text has it.
    pub is_default: bool,
    /// Its explanation.
    pub text: String,
}

/// The mark of a commented value that is no default.
const EXAMPLE: &str = " # example";

impl Sample {
    /// Reads a sample.
    ///
    /// # Errors
    /// A sentence with the line that has an unexpected form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().enumerate();
        let header: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| !line.is_empty()).collect();
        // What follows the first paragraph explains the form of samples.
        let first: Vec<&str> = header.into_iter().map_while(|line| line.strip_prefix("# ")).collect();
        let first = first.join(" ");
        let (place, rest) = first.split_once(": ").ok_or("line 1 is not \"# PLACE: SUMMARY.\"")?;
        let (summary, notes) = rest.split_once(". ").unwrap_or((rest.trim_end_matches('.'), ""));
        let mut sample = Self {
            place: place.to_owned(),
            summary: summary.to_owned(),
            notes: notes.to_owned(),
            tables: vec![Table::default()],
        };
        let mut heading = String::new();
        let mut comment: Vec<&str> = Vec::new();
        for (index, line) in lines {
            if let Some(text) = line.strip_prefix("# ") {
                comment.push(text);
                continue;
            }
            let explanation = std::mem::take(&mut comment).join(" ");
            let (setting, is_comment) = line.strip_prefix('#').map_or((line, false), |setting| (setting, true));
            let (setting, is_example) =
                setting.strip_suffix(EXAMPLE).map_or((setting, false), |setting| (setting, true));
            if setting.starts_with('[') {
                setting.clone_into(&mut heading);
                sample.table(&heading, explanation);
            } else if let Some((name, value)) = setting.split_once(" = ") {
                let (name, value) = (name.to_owned(), value.to_owned());
                let key = Key { name, value, is_default: is_comment && !is_example, text: explanation };
                sample.table(&heading, String::new()).add(key);
            } else if !(line.is_empty() && explanation.is_empty()) {
                return Err(format!("line {}: neither a setting nor its explanation: {line:?}", index + 1));
            }
        }
        Ok(sample)
    }

    /// The table with this heading, which may occur several times: the first time has the text.
    fn table(&mut self, heading: &str, text: String) -> &mut Table {
        let index = self.tables.iter().position(|table| table.heading == heading).unwrap_or(self.tables.len());
        if index == self.tables.len() {
            self.tables.push(Table { heading: heading.to_owned(), text, keys: Vec::new() });
        }
        #[expect(clippy::indexing_slicing, reason = "it was found or added")]
        &mut self.tables[index]
    }
}

impl Table {
    /// Adds a key, unless an earlier table of the list has explained it.
    fn add(&mut self, key: Key) {
        if !self.keys.iter().any(|earlier| earlier.name == key.name) {
            self.keys.push(key);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const TEXT: &str = "# /etc/cart.toml: carts. Root's.\n#\n# Each key has its explanation above it.\n\n# How large\n# it is.\n#size = 7\n\n# A wheel.\n[[wheel]]\n# Its name.\nname = \"left\"\n\n# Another wheel.\n#[[wheel]] # example\n#name = \"right\" # example\n# Its colour.\n#colour = \"red\" # example\n";

    #[test]
    fn tables_and_keys_are_read_with_their_texts() {
        let sample = Sample::parse(TEXT).unwrap();
        assert_eq!(
            (sample.place.as_str(), sample.summary.as_str(), sample.notes.as_str()),
            ("/etc/cart.toml", "carts", "Root's.")
        );
        let shown: Vec<String> = sample
            .tables
            .iter()
            .flat_map(|table| {
                table.keys.iter().map(move |key| {
                    format!("{}{} {} {} {}", table.heading, key.name, key.value, key.is_default, key.text)
                })
            })
            .collect();
        assert_eq!(
            shown,
            [
                "size 7 true How large it is.",
                "[[wheel]]name \"left\" false Its name.",
                "[[wheel]]colour \"red\" false Its colour."
            ]
        );
        assert_eq!(sample.tables.last().unwrap().text, "A wheel.");
    }

    #[test]
    fn a_line_of_another_form_is_an_error() {
        for (line, place) in [("size", "line 3"), ("# a comment without a key\n\n", "line 4"), ("#size=3", "line 3")] {
            let error = Sample::parse(&format!("# /a: b.\n\n{line}")).unwrap_err();
            assert!(error.starts_with(place), "{error}");
        }
    }
}
