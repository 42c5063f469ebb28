// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a Markdown page consists of, as `CommonMark` and GitHub's tables define it.

use std::collections::HashMap;
use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A block of code with the word behind its fence; empty without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub language: String,
    pub text: String,
}

/// The parts of a page that the tests look at.
#[derive(Debug, Default)]
pub struct Page {
    /// Targets of links and images.
    pub links: Vec<String>,
    /// The anchors that GitHub and mdBook make of the headings: both drop punctuation, and number what occurs twice.
    pub anchors: Vec<String>,
    /// Texts in backticks.
    pub spans: Vec<String>,
    pub blocks: Vec<Block>,
    /// Raw HTML, which GitHub and mdBook treat differently.
    pub html: Vec<String>,
    /// The bytes of each block of code with its fences.
    code: Vec<Range<usize>>,
}

impl Page {
    pub fn parse(text: &str) -> Self {
        let mut page = Self::default();
        let mut heading: Option<String> = None;
        let mut block: Option<Block> = None;
        let mut times: HashMap<String, usize> = HashMap::new();
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let anchor = anchor(&heading.take().unwrap_or_default());
                    let before = times.entry(anchor.clone()).or_default();
                    page.anchors.push(if *before == 0 { anchor } else { format!("{anchor}-{before}") });
                    *before += 1;
                }
                Event::Start(Tag::CodeBlock(kind)) => {
                    let language = match kind {
                        CodeBlockKind::Fenced(language) => language.into_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    block = Some(Block { language, text: String::new() });
                    page.code.push(range);
                }
                Event::End(TagEnd::CodeBlock) => page.blocks.extend(block.take()),
                Event::Html(html) | Event::InlineHtml(html) => page.html.push(html.into_string()),
                Event::Code(code) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&code);
                    }
                    page.spans.push(code.into_string());
                }
                Event::Text(text) => {
                    if let Some(block) = &mut block {
                        block.text.push_str(&text);
                    } else if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                _ => {}
            }
        }
        page
    }

    /// The links to files, each with the part behind `#`. A link within the page has an empty path.
    pub fn files(&self) -> Vec<(&str, &str)> {
        let is_url = |target: &&String| target.contains("://") || target.starts_with("mailto:");
        let files = self.links.iter().filter(|target| !is_url(target));
        files.map(|target| target.split_once('#').unwrap_or((target, ""))).collect()
    }

    /// The lines of `text`, which this page was parsed from, that are outside blocks of code, with their numbers.
    pub fn prose<'a>(&self, text: &'a str) -> Vec<(usize, &'a str)> {
        let mut begin = 0;
        let mut lines = Vec::new();
        for (index, line) in text.split('\n').enumerate() {
            let end = begin + line.len();
            if !self.code.iter().any(|code| code.start <= end && begin < code.end) {
                lines.push((index + 1, line));
            }
            begin = end + 1;
        }
        lines
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn the_parts_of_a_page_are_recognised() {
    let text = "# A b\n[a](b.md#c), [d](https://e#x)\n![f](g/h) [i](#j) [k][l]\n\n[l]: m.md\n\n```toml\n# no heading [n](o)\n```\n\
                ### `C-d`, e\n| [p](q) | `r` |\n|---|---|\n\n## A b\n<b>\n\n`s\nt`\n";
    let page = Page::parse(text);
    assert_eq!(page.files(), [("b.md", "c"), ("g/h", ""), ("", "j"), ("m.md", ""), ("q", "")]);
    assert_eq!(page.anchors, ["a-b", "c-d-e", "a-b-1"]);
    assert_eq!(page.spans, ["C-d", "r", "s t"]);
    assert_eq!(page.blocks, [Block { language: "toml".into(), text: "# no heading [n](o)\n".into() }]);
    assert_eq!(page.html, ["<b>\n"]);
    let fenced = "a\n```\nb\n\nc\n```\nd\n";
    let prose = Page::parse(fenced).prose(fenced);
    assert_eq!(prose, [(1, "a"), (7, "d"), (8, "")]);
}
