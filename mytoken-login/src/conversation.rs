// SPDX-License-Identifier: MIT OR Apache-2.0
//! Talking with the person: one prompt, or several when the token does not fit into one answer.
//!
//! All pieces are asked for within one `pam_authenticate`. How they and their prompts look is in [`mytoken_wire::chunks`].

use mytoken_wire::chunks::{ChunkFault, TOTAL_LIMIT, prompt_for, split};
use zeroize::Zeroizing;

/// The person, or whatever answers for them.
pub trait Conversation {
    /// Asks without echo.
    ///
    /// # Errors
    /// [`Gone`] when nobody answers.
    fn ask(&mut self, prompt: &str) -> Result<Zeroizing<Vec<u8>>, Gone>;

    /// Says something.
    fn tell(&mut self, text: &str);
}

/// Nobody answers any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// An answer, whole.
    Answer(Zeroizing<Vec<u8>>),
    /// Pieces that do not make one.
    Broken(ChunkFault),
}

/// Asks with `prompt` and, when `chunks`, for the further pieces.
///
/// # Errors
/// [`Gone`] when nobody answers.
pub fn ask(conversation: &mut dyn Conversation, prompt: &str, chunks: bool) -> Result<Asked, Gone> {
    let first = conversation.ask(prompt)?;
    if !chunks || first.first() != Some(&b'@') {
        return Ok(Asked::Answer(first));
    }
    collect(conversation, prompt, &first)
}

fn collect(conversation: &mut dyn Conversation, prompt: &str, first: &[u8]) -> Result<Asked, Gone> {
    let (index, count, piece) = match split(first) {
        Ok(parts) => parts,
        Err(fault) => return Ok(Asked::Broken(fault)),
    };
    if index != 1 {
        return Ok(Asked::Broken(ChunkFault::Order));
    }
    // Room for everything at once: a growing vector would leave copies of the secret in freed memory.
    let mut whole = Zeroizing::new(Vec::with_capacity(TOTAL_LIMIT));
    if piece.len() > TOTAL_LIMIT {
        return Ok(Asked::Broken(ChunkFault::Long));
    }
    whole.extend_from_slice(piece);
    for wanted in 2..=count {
        let answer = conversation.ask(&prompt_for(prompt, wanted, count))?;
        match split(&answer) {
            Ok((index, of, piece)) if index == wanted && of == count => {
                if whole.len() + piece.len() > TOTAL_LIMIT {
                    return Ok(Asked::Broken(ChunkFault::Long));
                }
                whole.extend_from_slice(piece);
            }
            Ok(_) => return Ok(Asked::Broken(ChunkFault::Order)),
            Err(fault) => return Ok(Asked::Broken(fault)),
        }
    }
    Ok(Asked::Answer(whole))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use mytoken_wire::chunks::CHUNKS_LIMIT;

    /// Answers in order and remembers the prompts.
    struct Script {
        answers: std::vec::IntoIter<Vec<u8>>,
        prompts: Vec<String>,
    }

    impl Conversation for Script {
        fn ask(&mut self, prompt: &str) -> Result<Zeroizing<Vec<u8>>, Gone> {
            self.prompts.push(prompt.to_owned());
            self.answers.next().map(Zeroizing::new).ok_or(Gone)
        }
        fn tell(&mut self, _: &str) {}
    }

    fn run(answers: Vec<Vec<u8>>) -> (Result<Asked, Gone>, Vec<String>) {
        let mut script = Script { answers: answers.into_iter(), prompts: Vec::new() };
        let asked = ask(&mut script, "Access Token:", true);
        (asked, script.prompts)
    }

    fn texts(answers: &[&str]) -> Vec<Vec<u8>> {
        answers.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    #[test]
    fn pieces_are_asked_for_by_number() {
        let (asked, prompts) = run(texts(&["@1/3:ab", "@2/3:cd", "@3/3:e"]));
        assert_eq!(asked, Ok(Asked::Answer(Zeroizing::new(b"abcde".to_vec()))));
        assert_eq!(prompts, ["Access Token:", "Access Token (2/3):", "Access Token (3/3):"]);
    }

    #[test]
    fn whatever_is_out_of_order_ends_it_at_once() {
        use ChunkFault::{Empty, Long, Many, Mark, Order};
        let long = format!("@2/2:{}", "x".repeat(TOTAL_LIMIT));
        let table: &[(&[&str], ChunkFault, usize)] = &[
            (&["@2/3:a"], Order, 1),
            (&["@1/3:a", "@3/3:b"], Order, 2),
            (&["@1/3:a", "@2/4:b"], Order, 2),
            (&["@1/3:a", "@1/3:b"], Order, 2),
            (&["@1/3:a", "b"], Mark, 2),
            (&["@1/3:a", ""], Mark, 2),
            (&["@1/3:"], Empty, 1),
            (&["@1/65:a"], Many, 1),
            (&["@1/0:a"], Mark, 1),
            (&["@0/1:a"], Mark, 1),
            (&["@01/3:a"], Mark, 1),
            (&["@+1/3:a"], Mark, 1),
            (&["@1/1000:a"], Mark, 1),
            (&["@"], Mark, 1),
            (&["@1/3"], Mark, 1),
            (&["@/:a"], Mark, 1),
            (&["@1/2:a", &long], Long, 2),
        ];
        for (answers, fault, asked_for) in table {
            let (asked, prompts) = run(texts(answers));
            assert_eq!(asked, Ok(Asked::Broken(*fault)), "{:?}", answers.first());
            assert_eq!(prompts.len(), *asked_for, "{:?}", answers.first());
        }
    }

    #[test]
    fn who_goes_away_is_gone() {
        assert_eq!(run(texts(&["@1/2:a"])).0, Err(Gone));
        assert_eq!(run(Vec::new()).0, Err(Gone));
    }

    #[test]
    fn without_chunks_an_answer_is_what_it_is() {
        let mut script = Script { answers: texts(&["@1/2:a"]).into_iter(), prompts: Vec::new() };
        assert_eq!(ask(&mut script, "x", false), Ok(Asked::Answer(Zeroizing::new(b"@1/2:a".to_vec()))));
    }

    proptest! {
        #[test]
        fn cut_and_collected_is_the_same(token in "[A-Za-z0-9_.-]{1,4000}", size in 63_usize..1000) {
            let bytes = token.as_bytes();
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            let count = pieces.len();
            prop_assume!(count <= CHUNKS_LIMIT);
            let answers = pieces.iter().enumerate().map(|(number, piece)| {
                let mut answer = format!("@{}/{count}:", number + 1).into_bytes();
                answer.extend_from_slice(piece);
                answer
            }).collect();
            prop_assert_eq!(run(answers).0, Ok(Asked::Answer(Zeroizing::new(bytes.to_vec()))));
        }

        #[test]
        fn no_answer_makes_it_panic_or_grow(answers in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..5)) {
            if let Ok(Asked::Answer(whole)) = run(answers.clone()).0 {
                prop_assert!(whole.len() <= TOTAL_LIMIT);
            }
            let marked = answers.into_iter().map(|answer| [b"@1/2:".to_vec(), answer].concat()).collect();
            let _ = run(marked);
        }
    }
}
