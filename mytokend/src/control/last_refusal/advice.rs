// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a `reason=` of the log means and what to do: the table of the administrator guide, so that both say the same.

/// The page with the table. A test compares the table with the product.
const PAGE: &str = include_str!("../../../../docs/admin/logs.md");

/// The sentence for a reason that the page does not have.
const UNKNOWN: &str = "This version does not know the reason.";

/// The sentences for a reason.
pub(super) fn advice(reason: &str) -> String {
    let begin = format!("| `{reason}` | ");
    let row = PAGE.lines().find_map(|line| line.strip_prefix(&begin));
    let text = row.and_then(|row| row.strip_suffix(" | yes |").or_else(|| row.strip_suffix(" | no |")));
    text.map_or_else(|| UNKNOWN.to_owned(), plain)
}

/// The text without the signs of Markdown.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        match link.split_once("](").and_then(|(name, target)| Some((name, target.split_once(')')?.1))) {
            Some((name, after)) if !name.contains(']') => {
                plain.push_str(before);
                plain.push_str(name);
                rest = after;
            }
            // `[[issuer]]` is no link.
            _ => {
                plain.push_str(before);
                plain.push('[');
                rest = link;
            }
        }
    }
    plain.push_str(rest);
    plain.replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_page_gives_sentences() {
        let reasons = PAGE.lines().filter(|line| line.ends_with(" | yes |") || line.ends_with(" | no |"));
        let reasons: Vec<&str> = reasons.filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert!(reasons.len() > 40, "{reasons:?}");
        for reason in reasons {
            let text = advice(reason);
            assert!(text.ends_with('.') && !text.contains(['`', '|']), "{reason}: {text}");
            assert_ne!(text, UNKNOWN, "{reason}");
        }
    }

    #[test]
    fn an_unknown_reason_and_signs_of_markdown_are_no_trouble() {
        for unknown in ["", "x", "`", "algorithm` | The", "reason="] {
            assert_eq!(advice(unknown), UNKNOWN, "{unknown}");
        }
        assert_eq!(advice("issuer_unknown"), "No [[issuer]] has the URL in the token.");
        assert_eq!(plain("See [how many](slurm.md#x) of `[budget]` [x"), "See how many of [budget] [x");
    }
}
