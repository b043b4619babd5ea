//! Token ids of many texts, for programs that compare them with others'.
//!
//! `tokenize FILE.gguf ends` prints the ids that end a generation. `tokenize FILE.gguf` reads texts from its standard input and answers each on its standard output. A text is its length
//! in bytes, a byte of flags (1: add special tokens, 2: parse them, 4: also answer with the decoded text) and its UTF-8;
//! an answer is the number of ids, the ids, and where asked for the decoded text's length and UTF-8. Numbers are 32 bits,
//! little-endian.
use realm_node::{gguf::Gguf, tokenizer::Tokenizer};
use std::{
    error::Error,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::Path,
};

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os().nth(1).ok_or("usage: tokenize FILE.gguf")?;
    let gguf = Gguf::open(Path::new(&file))?;
    let tokenizer = Tokenizer::from_metadata(gguf.metadata())?.ok_or("the file has no vocabulary")?;
    if std::env::args().nth(2).as_deref() == Some("ends") {
        let ids = 0..tokenizer.vocab_size() as u32;
        ids.filter(|&id| tokenizer.is_end_of_generation(id)).for_each(|id| println!("{id}"));
        return Ok(());
    }
    let (mut input, mut output) = (BufReader::new(io::stdin().lock()), BufWriter::new(io::stdout().lock()));
    let mut text = Vec::new();
    while !input.fill_buf()?.is_empty() {
        let mut header = [0; 5];
        input.read_exact(&mut header)?;
        let [a, b, c, d, flags] = header;
        text.resize(u32::from_le_bytes([a, b, c, d]) as usize, 0);
        input.read_exact(&mut text)?;
        let ids = tokenizer.encode(std::str::from_utf8(&text)?, flags & 1 != 0, flags & 2 != 0);
        write_number(&mut output, ids.len())?;
        for &id in &ids {
            output.write_all(&id.to_le_bytes())?;
        }
        if flags & 4 != 0 {
            let decoded = tokenizer.decode(&ids, true)?;
            write_number(&mut output, decoded.len())?;
            output.write_all(decoded.as_bytes())?;
        }
        // Whoever waits for this answer has sent no more.
        if input.buffer().is_empty() {
            output.flush()?;
        }
    }
    Ok(output.flush()?)
}

fn write_number(output: &mut impl Write, number: usize) -> io::Result<()> {
    output.write_all(&u32::try_from(number).map_err(io::Error::other)?.to_le_bytes())
}
