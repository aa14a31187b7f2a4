//! The grubenv file: a block of lines `name=value`, padded with `#` to its fixed size.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use crate::{Error, Result};

const SIGNATURE: &[u8] = b"# GRUB Environment Block\n";
pub const LIMIT_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub variables: Vec<(String, String)>,
    /// The size that the file has and keeps.
    bytes: usize,
}

impl Block {
    pub fn parse(data: &[u8]) -> Result<Block> {
        let body = data.strip_prefix(SIGNATURE).ok_or(Error::Corrupt("grubenv"))?;
        if data.len() > LIMIT_BYTES {
            return Err(Error::Limit("size of grubenv"));
        }
        let mut variables = Vec::new();
        let mut at = 0;
        while at < body.len() {
            // A value goes on over an escaped newline.
            let mut line: Vec<u8> = Vec::new();
            let mut escaped = false;
            while at < body.len() {
                let byte = body[at];
                at += 1;
                match byte {
                    _ if escaped => {
                        line.push(byte);
                        escaped = false;
                    }
                    b'\\' => escaped = true,
                    b'\n' => break,
                    _ => line.push(byte),
                }
            }
            if line.first() == Some(&b'#') {
                continue;
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            if let Some((name, value)) = line.split_once('=')
                && !name.is_empty()
            {
                variables.push((name.to_string(), value.to_string()));
            }
        }
        Ok(Block { variables, bytes: data.len() })
    }

    /// Sets a variable; None removes it.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        match (self.variables.iter().position(|(known, _)| known == name), value) {
            (Some(index), Some(value)) => self.variables[index].1 = value.to_string(),
            (Some(index), None) => {
                self.variables.remove(index);
            }
            (None, Some(value)) => self.variables.push((name.to_string(), value.to_string())),
            (None, None) => {}
        }
    }

    /// The file's new content, of the same size; an error if it does not fit any more.
    pub fn content(&self) -> Result<Vec<u8>> {
        let mut data = SIGNATURE.to_vec();
        for (name, value) in &self.variables {
            data.extend(name.as_bytes());
            data.push(b'=');
            for &byte in value.as_bytes() {
                if matches!(byte, b'\\' | b'\n') {
                    data.push(b'\\');
                }
                data.push(byte);
            }
            data.push(b'\n');
        }
        if data.len() > self.bytes {
            return Err(Error::Limit("size of grubenv"));
        }
        data.resize(self.bytes, b'#');
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(lines: &str) -> Vec<u8> {
        let mut data = SIGNATURE.to_vec();
        data.extend(lines.as_bytes());
        data.resize(1024, b'#');
        data
    }

    #[test]
    fn a_block_is_read_changed_and_written_in_its_own_size() {
        let mut read = Block::parse(&block("saved_entry=a>b\nkernelopts=root=UUID=1 ro\npath=c:\\\\x\n")).unwrap();
        assert_eq!(read.variables[0], ("saved_entry".into(), "a>b".into()));
        assert_eq!(read.variables[1].1, "root=UUID=1 ro");
        assert_eq!(read.variables[2].1, "c:\\x");
        read.set("saved_entry", None);
        read.set("next", Some("1"));
        let written = read.content().unwrap();
        assert_eq!(written.len(), 1024);
        assert_eq!(Block::parse(&written).unwrap(), read);
        read.set("big", Some(&"x".repeat(1024)));
        assert!(read.content().is_err());
    }

    #[test]
    fn what_is_no_block_is_refused() {
        assert!(Block::parse(b"").is_err());
        assert!(Block::parse(b"saved_entry=1\n").is_err());
    }
}
