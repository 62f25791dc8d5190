//! Reads the fenced blocks of a Markdown document.

use std::path::Path;

/// A document and its fenced blocks.
#[derive(Debug)]
pub struct Document {
    /// Its path below the repository.
    pub path: String,
    /// In the order of the document.
    pub blocks: Vec<Block>,
}

/// A fenced block.
#[derive(Debug)]
pub struct Block {
    /// The line of the opening fence, from 1.
    pub line: usize,
    /// What the block is.
    pub kind: Kind,
    /// Its text, without the indentation of the fence.
    pub lines: Vec<String>,
}

/// The meaning of a block, from its info string.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Commands to paste.
    Commands,
    /// A command that runs in a terminal of its own.
    Foreground,
    /// Commands that cannot be replayed, with a reason in the document.
    NotReplayed,
    /// Expected output of the block above.
    Output(Format),
    /// Everything else.
    Other,
}

/// The format of an expected output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// One or more JSON values.
    Json,
    /// Lines of words.
    Text,
}

impl Document {
    /// Reads the file at `path` below `repository`.
    pub fn read(repository: &Path, path: &str) -> Result<Self, String> {
        let text =
            std::fs::read_to_string(repository.join(path)).map_err(|error| format!("{path}: {error}"))?;
        Self::parse(path, &text)
    }

    /// Returns the blocks of `text`, or the first one that breaks a rule.
    pub fn parse(path: &str, text: &str) -> Result<Self, String> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let Some(info) = line.trim_start().strip_prefix("```") else { continue };
            let at = |fault: &str| format!("{path}:{}: {fault}", number + 1);
            let indent = line.len() - line.trim_start().len();
            let unindented = |line: &str| line.get(indent..).unwrap_or_default().to_owned();
            let content: Vec<String> = lines
                .by_ref()
                .take_while(|(_, line)| line.trim() != "```")
                .map(|(_, line)| unindented(line))
                .collect();
            let kind = kind(info).map_err(at)?;
            let block = Block { line: number + 1, kind, lines: content };
            block.check(blocks.last().map(|block| block.kind)).map_err(at)?;
            blocks.push(block);
        }
        Ok(Self { path: path.to_owned(), blocks })
    }

    /// Whether it has commands to replay.
    pub fn has_commands(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block.kind, Kind::Commands | Kind::Foreground))
    }
}

impl Block {
    fn check(&self, above: Option<Kind>) -> Result<(), &'static str> {
        let is_command = |line: &String| line.starts_with("$ ") || line.starts_with("auth-service ");
        match self.kind {
            Kind::Commands | Kind::Foreground if self.lines.is_empty() => Err("the block is empty"),
            Kind::Output(_)
                if !matches!(above, Some(Kind::Commands | Kind::Foreground | Kind::NotReplayed)) =>
            {
                Err("an output must follow its commands")
            }
            Kind::Other if self.lines.iter().any(is_command) => {
                Err("commands belong in a block `sh`, and what they print in a block `text output` below it")
            }
            _ => Ok(()),
        }
    }
}

fn kind(info: &str) -> Result<Kind, &'static str> {
    let (language, rest) = info.split_once(' ').unwrap_or((info, ""));
    match (language, rest) {
        ("sh", "") => Ok(Kind::Commands),
        ("sh", "runs until Ctrl-C") => Ok(Kind::Foreground),
        ("sh", rest)
            if rest.strip_prefix("not replayed: ").is_some_and(|reason| !reason.trim().is_empty()) =>
        {
            Ok(Kind::NotReplayed)
        }
        ("sh", _) => Err("after `sh`: nothing, `runs until Ctrl-C`, or `not replayed: REASON`"),
        ("json", "output") => Ok(Kind::Output(Format::Json)),
        ("text", "output") => Ok(Kind::Output(Format::Text)),
        ("" | "bash" | "shell" | "console" | "shell-session" | "zsh" | "fish", _) => {
            Err("a block has a language, and commands have the language `sh`")
        }
        (_, "output") => Err("the format of an output is `json` or `text`"),
        _ => Ok(Kind::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Result<Vec<(usize, Kind)>, String> {
        let blocks = Document::parse("x.md", text)?.blocks;
        Ok(blocks.iter().map(|block| (block.line, block.kind)).collect())
    }

    #[test]
    fn info_string_says_what_a_block_is() {
        let text = "a\n```sh\nb\n```\n```json output\n{}\n```\n\n- c\n\n  ```sh not replayed: needs d\n  e\n  ```\n```rust\n```\n";
        let expected = [
            (2, Kind::Commands),
            (5, Kind::Output(Format::Json)),
            (11, Kind::NotReplayed),
            (14, Kind::Other),
        ];
        assert_eq!(kinds(text), Ok(expected.to_vec()));
        assert_eq!(Document::parse("x.md", text).unwrap().blocks[2].lines, ["e"]);
    }

    #[test]
    fn commands_cannot_hide() {
        for block in [
            "```bash\ntrue\n```",
            "```\ntrue\n```",
            "```console\n$ true\n```",
            "```text\n$ true\n```",
            "```text\nauth-service status\n```",
            "```sh not replayed\ntrue\n```",
            "```sh not replayed: \ntrue\n```",
            "```sh later\ntrue\n```",
            "```sh\n```",
            "```text output\na\n```",
            "```yaml output\na\n```",
        ] {
            let fault = kinds(&format!("\n{block}\n")).expect_err(block);
            assert!(fault.starts_with("x.md:2: "), "{fault}");
        }
    }
}
