//! Jinja2's lexer with the settings of its default environment. It handles whitespace control, raw blocks and comments,
//! and removes one trailing line break.

use super::EvalError;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Text outside tags.
    Data(String),
    VariableBegin,
    VariableEnd,
    BlockBegin,
    BlockEnd,
    Name(Arc<str>),
    Int(String),
    Float(f64),
    Str(Arc<str>),
    BinaryOp(&'static str),
    End,
}

impl Token {
    /// The name of the token in Jinja2's error messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Token::Data(_) => "template data / text".into(),
            Token::VariableBegin => "begin of print statement".into(),
            Token::VariableEnd => "end of print statement".into(),
            Token::BlockBegin => "begin of statement block".into(),
            Token::BlockEnd => "end of statement block".into(),
            Token::Name(name) => name.to_string(),
            Token::Int(_) => "integer".into(),
            Token::Float(_) => "float".into(),
            Token::Str(_) => "string".into(),
            Token::BinaryOp(op) => (*op).into(),
            Token::End => "end of template".into(),
        }
    }
}

/// The longest operators come first, so that `//` is not read as two `/`.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|",
    ",", ";",
];
/// Limit for the tokens between one pair of tag delimiters.
const MAX_TAG_TOKENS: usize = 4000;

pub(super) fn syntax<T>(message: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError::new("TemplateSyntaxError", message))
}

/// Normalizes line breaks as Jinja2 does: every line break becomes `\n`, and one at the end of the text is removed.
pub(super) fn normalized(text: &str) -> String {
    let mut text = if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text.to_owned() };
    if text.ends_with('\n') {
        text.pop();
    }
    text
}

/// # Errors
/// TemplateSyntaxError, as in Jinja2.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, EvalError> {
    let source = normalized(text);
    let mut lexer = Lexer { text: &source, at: 0, tokens: Vec::new() };
    while lexer.at < source.len() {
        lexer.root()?;
    }
    lexer.tokens.push(Token::End);
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        self.at += if found { text.len() } else { 0 };
        found
    }

    /// Reads the text up to the next tag, and the tag.
    fn root(&mut self) -> Result<(), EvalError> {
        let rest = self.rest();
        let begin =
            rest.match_indices('{').map(|(at, _)| at).find(|at| matches!(rest.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')));
        let Some(begin) = begin else {
            self.data(rest, false);
            self.at = self.text.len();
            return Ok(());
        };
        let kind = rest.as_bytes().get(begin + 1).copied().unwrap_or_default();
        self.at += begin + 2;
        let strip = self.rest().starts_with('-');
        if kind == b'#' {
            self.data(rest.get(..begin).unwrap_or_default(), strip);
            return self.comment();
        }
        self.data(rest.get(..begin).unwrap_or_default(), strip);
        if matches!(self.rest().as_bytes().first(), Some(b'-' | b'+')) {
            self.at += 1;
        }
        if kind == b'%' {
            let start = self.at;
            if self.raw_begin() {
                return self.raw();
            }
            self.at = start;
            self.tokens.push(Token::BlockBegin);
            return self.tag("%}", Token::BlockEnd);
        }
        self.tokens.push(Token::VariableBegin);
        self.tag("}}", Token::VariableEnd)
    }

    fn data(&mut self, text: &str, strip: bool) {
        let text = if strip { text.trim_end() } else { text };
        if !text.is_empty() {
            self.tokens.push(Token::Data(text.to_owned()));
        }
    }

    fn comment(&mut self) -> Result<(), EvalError> {
        let Some((inside, _)) = self.rest().split_once("#}") else { return syntax("Missing end of comment tag") };
        self.at += inside.len() + 2;
        if inside.ends_with('-') {
            self.skip_space();
        }
        Ok(())
    }

    fn raw_begin(&mut self) -> bool {
        self.skip_space();
        if !self.eat("raw") {
            return false;
        }
        self.skip_space();
        if self.eat("-%}") {
            self.skip_space();
            return true;
        }
        self.eat("%}")
    }

    fn raw(&mut self) -> Result<(), EvalError> {
        let body = self.rest();
        for (begin, _) in body.match_indices("{%") {
            let mut end = Lexer { text: body, at: begin + 2, tokens: Vec::new() };
            let strip = end.eat("-");
            if !strip {
                end.eat("+");
            }
            end.skip_space();
            if !end.eat("endraw") {
                continue;
            }
            end.skip_space();
            let closed = if end.eat("-%}") {
                end.skip_space();
                true
            } else {
                end.eat("+%}") || end.eat("%}")
            };
            if closed {
                self.data(body.get(..begin).unwrap_or_default(), strip);
                self.at += end.at;
                return Ok(());
            }
        }
        syntax("Missing end of raw directive")
    }

    /// Reads the tokens of a tag and its closing delimiter.
    fn tag(&mut self, close: &str, end: Token) -> Result<(), EvalError> {
        let first = self.tokens.len();
        let mut brackets: Vec<char> = Vec::new();
        loop {
            if self.tokens.len() - first > MAX_TAG_TOKENS {
                return Err(EvalError::new("RecursionError", "the expression is too long"));
            }
            self.skip_space();
            if brackets.is_empty() && self.tag_end(close) {
                self.tokens.push(end);
                return Ok(());
            }
            let Some(char) = self.rest().chars().next() else {
                return if let Some(open) = brackets.last() {
                    syntax(format!("unexpected end of template, expected '{open}'"))
                } else {
                    // The parser reports which token is missing.
                    Ok(())
                };
            };
            self.token(char, &mut brackets)?;
        }
    }

    /// Consumes the closing delimiter of the tag if it is next.
    fn tag_end(&mut self, close: &str) -> bool {
        let start = self.at;
        let minus = self.eat("-");
        if !minus && close == "%}" {
            self.eat("+");
        }
        if self.eat(close) {
            if minus {
                self.skip_space();
            }
            return true;
        }
        self.at = start;
        false
    }

    fn token(&mut self, char: char, brackets: &mut Vec<char>) -> Result<(), EvalError> {
        if char.is_ascii_digit() {
            return self.number();
        }
        if char.is_alphanumeric() || char == '_' {
            let rest = self.rest();
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let name = rest.get(..end).unwrap_or_default();
            self.at += end;
            self.tokens.push(Token::Name(name.into()));
            return Ok(());
        }
        if char == '\'' || char == '"' {
            return self.string(char);
        }
        let Some(op) = OPERATORS.iter().find(|op| self.rest().starts_with(**op)) else {
            return syntax(format!("unexpected char '{char}' at {}", self.at));
        };
        match *op {
            "(" => brackets.push(')'),
            "[" => brackets.push(']'),
            "{" => brackets.push('}'),
            ")" | "]" | "}" => match brackets.pop() {
                None => return syntax(format!("unexpected '{op}'")),
                Some(expected) if expected != char => return syntax(format!("unexpected '{op}', expected '{expected}'")),
                Some(_) => {}
            },
            _ => {}
        }
        self.at += op.len();
        self.tokens.push(Token::BinaryOp(op));
        Ok(())
    }

    fn string(&mut self, quote: char) -> Result<(), EvalError> {
        let body = self.rest().get(1..).unwrap_or_default();
        let mut escaped = false;
        for (at, char) in body.char_indices() {
            match char {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == quote => {
                    self.at += at + 2;
                    let text = unescaped(body.get(..at).unwrap_or_default())?;
                    self.tokens.push(Token::Str(text.into()));
                    return Ok(());
                }
                _ => {}
            }
        }
        syntax(format!("unexpected char {quote:?} at {}", self.at))
    }

    fn number(&mut self) -> Result<(), EvalError> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let after_dot = self.at > 0 && self.text.as_bytes().get(self.at - 1) == Some(&b'.');
        let whole = run(bytes, 0, |b| b.is_ascii_digit());
        let mut end = whole;
        if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
            end = run(bytes, end + 1, |b| b.is_ascii_digit());
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            if bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
                end = run(bytes, end + 1 + sign, |b| b.is_ascii_digit());
            }
        }
        if end > whole && !after_dot {
            let digits = rest.get(..end).unwrap_or_default().replace('_', "");
            self.at += end;
            self.tokens.push(Token::Float(digits.parse().unwrap_or(f64::INFINITY)));
            return Ok(());
        }
        let end = integer_length(bytes);
        self.tokens.push(Token::Int(rest.get(..end).unwrap_or_default().replace('_', "")));
        self.at += end;
        Ok(())
    }
}

/// Returns the end of the run of digits that starts at `at`. Single underscores between digits are allowed.
fn run(bytes: &[u8], mut at: usize, valid: fn(&u8) -> bool) -> usize {
    loop {
        while bytes.get(at).is_some_and(valid) {
            at += 1;
        }
        if bytes.get(at) != Some(&b'_') || !bytes.get(at + 1).is_some_and(valid) {
            return at;
        }
        at += 1;
    }
}

fn integer_length(bytes: &[u8]) -> usize {
    if bytes.first() != Some(&b'0') {
        return run(bytes, 0, u8::is_ascii_digit);
    }
    let valid: Option<fn(&u8) -> bool> = match bytes.get(1) {
        Some(b'x' | b'X') => Some(u8::is_ascii_hexdigit),
        Some(b'o' | b'O') => Some(|b| (b'0'..=b'7').contains(b)),
        Some(b'b' | b'B') => Some(|b| matches!(b, b'0' | b'1')),
        _ => None,
    };
    if let Some(valid) = valid {
        let start = 2 + usize::from(bytes.get(2) == Some(&b'_'));
        let end = run(bytes, start, valid);
        if end > start {
            return end;
        }
    }
    // Jinja2 reads `007` as several integers, which its parser then rejects.
    run(bytes, 0, |b| *b == b'0')
}

/// Decodes escapes as Python's `unicode-escape` codec does.
fn unescaped(text: &str) -> Result<String, EvalError> {
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let Some(char) = after.chars().next() else { return syntax("\\ at end of string") };
        rest = after.get(char.len_utf8()..).unwrap_or_default();
        let simple = match char {
            '\n' => continue,
            '\\' | '\'' | '"' => char,
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            'x' | 'u' | 'U' | '0'..='7' => {
                let (code, left) = coded(char, after)?;
                out.push(code);
                rest = left;
                continue;
            }
            'N' => return syntax("names of characters are not supported"),
            other => {
                out.push('\\');
                other
            }
        };
        out.push(simple);
    }
    out.push_str(rest);
    Ok(out)
}

/// Decodes a character that is escaped by its code point. `text` begins with the letter or the first octal digit of the
/// escape.
fn coded(letter: char, text: &str) -> Result<(char, &str), EvalError> {
    let octal = letter.is_ascii_digit();
    let start = usize::from(!octal);
    let end = match letter {
        'x' => 3,
        'u' => 5,
        'U' => 9,
        _ => text.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count(),
    };
    let digits = text.get(start..end).filter(|it| it.bytes().all(|b| b.is_ascii_hexdigit()));
    let code = digits.and_then(|it| u32::from_str_radix(it, if octal { 8 } else { 16 }).ok()).filter(|code| *code <= 0x10_ffff);
    let Some(code) = code else { return syntax(format!("truncated \\{letter} escape")) };
    // A Rust string cannot contain a lone surrogate.
    Ok((char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), text.get(end..).unwrap_or_default()))
}
