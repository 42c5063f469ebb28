// SPDX-License-Identifier: MIT OR Apache-2.0
//! Assurance expressions: values of the REFEDS Assurance Framework with `&`, `|` and parentheses, in the grammar of
//! `motley_cue`.

/// What precedes the values of the REFEDS Assurance Framework.
const PREFIX: &str = "https://refeds.org/assurance/";

/// How deep parentheses may be nested.
const DEPTH_LIMIT: usize = 32;

/// An expression, for example `profile/cappuccino & (IAP/medium | IAP/high)`. `&` binds more strongly than `|`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssuranceExpression {
    text: String,
    root: Node,
}

/// Why a text is not an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssuranceFault {
    /// It has no value.
    #[error("it is empty")]
    Empty,
    /// A value or `(` is missing at its end.
    #[error("a value is missing at its end")]
    End,
    /// A value or `(` is missing before this.
    #[error("a value is missing before \"{0}\"")]
    ValueMissing(
        /// The operator or parenthesis.
        String,
    ),
    /// An operator is missing before this.
    #[error("\"&\" or \"|\" is missing before \"{0}\"")]
    OperatorMissing(
        /// The value or parenthesis.
        String,
    ),
    /// A parenthesis is not closed.
    #[error("a parenthesis is not closed")]
    NotClosed,
    /// A parenthesis is not opened.
    #[error("a parenthesis is not opened")]
    NotOpened,
    /// Too many parentheses in each other.
    #[error("its parentheses are nested too deeply")]
    TooDeep,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    /// `*`
    Always,
    /// `+`: any value.
    Any,
    Value(String),
    All(Vec<Node>),
    OneOf(Vec<Node>),
}

impl AssuranceExpression {
    /// Reads an expression.
    ///
    /// # Errors
    /// [`AssuranceFault`].
    pub fn parse(text: &str) -> Result<Self, AssuranceFault> {
        let tokens = tokens(text);
        if tokens.is_empty() {
            return Err(AssuranceFault::Empty);
        }
        let mut parser = Parser { rest: &tokens };
        let root = parser.one_of(0)?;
        match parser.rest.first() {
            None => Ok(Self { text: text.trim().to_owned(), root }),
            Some(&")") => Err(AssuranceFault::NotOpened),
            Some(other) => Err(AssuranceFault::OperatorMissing((*other).to_owned())),
        }
    }

    /// Whether somebody with these values meets it. A value without a scheme is met by itself, and by itself behind
    /// `https://refeds.org/assurance/`.
    #[must_use]
    pub fn is_met_by(&self, held: &[&str]) -> bool {
        self.root.is_met_by(held)
    }
}

impl std::fmt::Display for AssuranceExpression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Node {
    fn is_met_by(&self, held: &[&str]) -> bool {
        match self {
            Self::Always => true,
            Self::Any => !held.is_empty(),
            Self::Value(value) => {
                let expands = !is_absolute(value);
                held.iter().any(|held| {
                    *held == value || (expands && held.strip_prefix(PREFIX).is_some_and(|rest| rest == value))
                })
            }
            Self::All(nodes) => nodes.iter().all(|node| node.is_met_by(held)),
            Self::OneOf(nodes) => nodes.iter().any(|node| node.is_met_by(held)),
        }
    }
}

fn is_absolute(value: &str) -> bool {
    value.starts_with("https://") || value.starts_with("http://")
}

/// Operators, parentheses, and the texts between them and blanks.
fn tokens(text: &str) -> Vec<&str> {
    let is_sign = |letter: char| matches!(letter, '&' | '|' | '(' | ')');
    let mut found = Vec::new();
    for word in text.split_whitespace() {
        for piece in word.split_inclusive(is_sign) {
            let (value, sign) = piece.split_at(piece.trim_end_matches(is_sign).len());
            found.extend([value, sign].into_iter().filter(|part| !part.is_empty()));
        }
    }
    found
}

struct Parser<'a> {
    rest: &'a [&'a str],
}

impl Parser<'_> {
    /// Takes the next token if it is this one.
    fn takes(&mut self, sign: &str) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == sign => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn one_of(&mut self, depth: usize) -> Result<Node, AssuranceFault> {
        let mut nodes = vec![self.all(depth)?];
        while self.takes("|") {
            nodes.push(self.all(depth)?);
        }
        Ok(single(nodes, Node::OneOf))
    }

    fn all(&mut self, depth: usize) -> Result<Node, AssuranceFault> {
        let mut nodes = vec![self.value(depth)?];
        while self.takes("&") {
            nodes.push(self.value(depth)?);
        }
        Ok(single(nodes, Node::All))
    }

    fn value(&mut self, depth: usize) -> Result<Node, AssuranceFault> {
        if depth > DEPTH_LIMIT {
            return Err(AssuranceFault::TooDeep);
        }
        if self.takes("(") {
            let node = self.one_of(depth.saturating_add(1))?;
            if self.takes(")") {
                return Ok(node);
            }
            return Err(match self.rest.first() {
                None => AssuranceFault::NotClosed,
                Some(other) => AssuranceFault::OperatorMissing((*other).to_owned()),
            });
        }
        let (first, rest) = self.rest.split_first().ok_or(AssuranceFault::End)?;
        self.rest = rest;
        match *first {
            "*" => Ok(Node::Always),
            "+" => Ok(Node::Any),
            "&" | "|" | ")" => Err(AssuranceFault::ValueMissing((*first).to_owned())),
            value => Ok(Node::Value(value.to_owned())),
        }
    }
}

/// The only node, or all of them together.
fn single(nodes: Vec<Node>, together: fn(Vec<Node>) -> Node) -> Node {
    match <[Node; 1]>::try_from(nodes) {
        Ok([only]) => only,
        Err(nodes) => together(nodes),
    }
}

#[cfg(test)]
mod tests;
