//! A prefix cache as plainly as one can be written: a list that is looked through from its beginning. It shares no code with
//! the engine's nor with the scheduler's simulation, and no hash either: a block is named by the text up to its own end.

/// Of a token and of a block, in bytes of text.
const TOKEN: usize = 4;
const BLOCK: usize = 64;

struct Block {
    text: String,
    /// By so many requests that run.
    held: u32,
}

/// The block that was used longest ago is the first.
pub(crate) struct Plain {
    blocks: Vec<Block>,
    room: usize,
    pub(crate) evicted: usize,
}

impl Plain {
    pub(crate) fn new(room: usize) -> Self {
        Self { blocks: Vec::new(), room, evicted: 0 }
    }

    /// A request begins, and is computed at once: how many leading blocks of its prompt were there. All of them are held from now on.
    pub(crate) fn begin(&mut self, prompt: &str) -> usize {
        let texts = texts(prompt);
        // The last token is computed in any case.
        let reusable = (prompt.len().div_ceil(TOKEN) - 1) * TOKEN / BLOCK;
        let mut hits = 0;
        while hits < reusable && self.place(texts[hits]).is_some() {
            hits += 1;
        }
        let (found, missing) = texts.split_at(hits);
        found.iter().for_each(|text| self.hold(text, 1));
        // What has to be computed needs room before it is there.
        while self.blocks.len() + missing.len() > self.room {
            let unused = self.blocks.iter().position(|block| block.held == 0).expect("the trace leaves room");
            self.blocks.remove(unused);
            self.evicted += 1;
        }
        missing.iter().for_each(|text| self.hold(text, 1));
        // Of one prompt the last block goes first, so its first one was used last.
        texts.iter().rev().for_each(|text| self.hold(text, 0));
        hits
    }

    /// A request that began with this prompt has ended.
    pub(crate) fn end(&mut self, prompt: &str) {
        for text in texts(prompt) {
            let place = self.place(text).expect("what is held is there");
            self.blocks[place].held -= 1;
        }
    }

    /// Makes it the one that was used last, held by so many more.
    fn hold(&mut self, text: &str, more: u32) {
        let mut block = match self.place(text) {
            Some(place) => self.blocks.remove(place),
            None => Block { text: text.to_owned(), held: 0 },
        };
        block.held += more;
        self.blocks.push(block);
    }

    fn place(&self, text: &str) -> Option<usize> {
        self.blocks.iter().position(|block| block.text == text)
    }
}

/// Of each whole block.
fn texts(prompt: &str) -> Vec<&str> {
    (1..=prompt.len() / BLOCK).map(|blocks| &prompt[..blocks * BLOCK]).collect()
}
