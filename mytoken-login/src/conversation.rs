// SPDX-License-Identifier: MIT OR Apache-2.0
//! The conversation with the user: one prompt, or several when the token is too long for one answer.
//!
//! All chunks are asked for within one `pam_authenticate` (SSH-03). [`mytoken_wire::chunks`] defines their form and their prompts.

use mytoken_wire::chunks::{ChunkFault, TOTAL_LIMIT, prompt_for, split};
use mytoken_wire::issuer_mark::is_marked;
use zeroize::Zeroizing;

/// The conversation with the user (PAM's word), or with a program that answers for them.
pub trait Conversation {
    /// Asks without echo.
    ///
    /// # Errors
    /// [`ConversationEnded`] when no answer comes.
    fn ask(&mut self, prompt: &str) -> Result<Zeroizing<Vec<u8>>, ConversationEnded>;

    /// Shows a message.
    fn show(&mut self, text: &str);

    /// Shows a message that is no error.
    fn inform(&mut self, text: &str) {
        self.show(text);
    }

    /// Longest prompt, in bytes.
    fn prompt_limit(&self) -> usize {
        PLAIN_PROMPT
    }
}

/// Longest prompt that each application shows, in bytes: classic ones cut at 512 (`PAM_MAX_MSG_SIZE`, SSH-28).
pub const PLAIN_PROMPT: usize = 500;

/// The conversation ended before an answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConversationEnded;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskError {
    /// The conversation ended.
    Ended,
    /// The chunks do not make one answer.
    Chunks(ChunkFault),
}

impl From<ConversationEnded> for AskError {
    fn from(_: ConversationEnded) -> Self {
        Self::Ended
    }
}

/// Asks with `prompt`. With `chunks`, an answer that is the first of several chunks is completed by further prompts.
///
/// # Errors
/// [`AskError`].
pub fn ask(conversation: &mut dyn Conversation, prompt: &str, chunks: bool) -> Result<Zeroizing<Vec<u8>>, AskError> {
    let first = conversation.ask(prompt)?;
    if !chunks || first.first() != Some(&b'@') || is_marked(&first) {
        return Ok(first);
    }
    collect(conversation, prompt, &first)
}

fn collect(conversation: &mut dyn Conversation, prompt: &str, first: &[u8]) -> Result<Zeroizing<Vec<u8>>, AskError> {
    let (index, count, piece) = split(first).map_err(AskError::Chunks)?;
    if index != 1 {
        return Err(AskError::Chunks(ChunkFault::Order));
    }
    // All memory at once: a vector that grows would leave copies of the secret in freed memory.
    let mut whole = Zeroizing::new(Vec::with_capacity(TOTAL_LIMIT));
    append(&mut whole, piece)?;
    for expected in 2..=count {
        let answer = conversation.ask(&prompt_for(prompt, expected, count))?;
        let (index, of, piece) = split(&answer).map_err(AskError::Chunks)?;
        if index != expected || of != count {
            return Err(AskError::Chunks(ChunkFault::Order));
        }
        append(&mut whole, piece)?;
    }
    Ok(whole)
}

fn append(whole: &mut Vec<u8>, piece: &[u8]) -> Result<(), AskError> {
    if whole.len() + piece.len() > TOTAL_LIMIT {
        return Err(AskError::Chunks(ChunkFault::Long));
    }
    whole.extend_from_slice(piece);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use mytoken_wire::chunks::CHUNKS_LIMIT;

    /// Gives the answers in order and keeps the prompts.
    struct Script {
        answers: std::vec::IntoIter<Vec<u8>>,
        prompts: Vec<String>,
    }

    impl Conversation for Script {
        fn ask(&mut self, prompt: &str) -> Result<Zeroizing<Vec<u8>>, ConversationEnded> {
            self.prompts.push(prompt.to_owned());
            self.answers.next().map(Zeroizing::new).ok_or(ConversationEnded)
        }
        fn show(&mut self, _: &str) {}
    }

    type Answer = Result<Zeroizing<Vec<u8>>, AskError>;

    fn run(answers: Vec<Vec<u8>>) -> (Answer, Vec<String>) {
        let mut script = Script { answers: answers.into_iter(), prompts: Vec::new() };
        let answer = ask(&mut script, "Access Token:", true);
        (answer, script.prompts)
    }

    fn texts(answers: &[&str]) -> Vec<Vec<u8>> {
        answers.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    #[test]
    fn chunks_are_asked_for_by_number() {
        let (answer, prompts) = run(texts(&["@1/3:ab", "@2/3:cd", "@3/3:e"]));
        assert_eq!(answer, Ok(Zeroizing::new(b"abcde".to_vec())));
        assert_eq!(prompts, ["Access Token:", "Access Token (2/3):", "Access Token (3/3):"]);
    }

    #[test]
    fn a_chunk_out_of_order_ends_the_prompts_at_once() {
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
            let (answer, prompts) = run(texts(answers));
            assert_eq!(answer, Err(AskError::Chunks(*fault)), "{:?}", answers.first());
            assert_eq!(prompts.len(), *asked_for, "{:?}", answers.first());
        }
    }

    #[test]
    fn a_token_that_names_its_provider_is_no_piece_and_can_come_in_pieces() {
        let whole = Zeroizing::new(b"@at:op:token".to_vec());
        assert_eq!(run(texts(&["@at:op:token"])).0, Ok(whole.clone()));
        assert_eq!(run(texts(&["@1/2:@at:op:", "@2/2:token"])).0, Ok(whole));
    }

    #[test]
    fn a_user_who_goes_away_ends_the_conversation() {
        assert_eq!(run(texts(&["@1/2:a"])).0, Err(AskError::Ended));
        assert_eq!(run(Vec::new()).0, Err(AskError::Ended));
    }

    #[test]
    fn without_chunks_an_answer_is_taken_literally() {
        let mut script = Script { answers: texts(&["@1/2:a"]).into_iter(), prompts: Vec::new() };
        assert_eq!(ask(&mut script, "x", false), Ok(Zeroizing::new(b"@1/2:a".to_vec())));
    }

    proptest! {
        #[test]
        fn a_token_in_chunks_is_put_together(token in "[A-Za-z0-9_.-]{1,4000}", size in 63_usize..1000) {
            let bytes = token.as_bytes();
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            let count = pieces.len();
            prop_assume!(count <= CHUNKS_LIMIT);
            let answers = pieces.iter().enumerate().map(|(number, piece)| {
                let mut answer = format!("@{}/{count}:", number + 1).into_bytes();
                answer.extend_from_slice(piece);
                answer
            }).collect();
            prop_assert_eq!(run(answers).0, Ok(Zeroizing::new(bytes.to_vec())));
        }

        #[test]
        fn no_answer_causes_a_panic_or_exceeds_the_limit(answers in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..5)) {
            if let Ok(whole) = run(answers.clone()).0 {
                prop_assert!(whole.len() <= TOTAL_LIMIT);
            }
            let marked = answers.into_iter().map(|answer| [b"@1/2:".to_vec(), answer].concat()).collect();
            let _ = run(marked);
        }
    }
}
