//! The input, one byte at a time, and what is derived from it: pages that change while they are
//! read, and guest memory with random contents and grants.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use vusb_backend::engine::{BadMemory, Memory, Piece};
use vusb_usbif::{PAGE_WORDS, Page};

/// The input; zeros when it is exhausted. A clone shares the position in the input.
#[derive(Clone)]
pub struct Input(Rc<RefCell<Vec<u8>>>);

impl Input {
    pub fn new(bytes: &[u8]) -> Input {
        Input(Rc::new(RefCell::new(bytes.iter().rev().copied().collect())))
    }

    pub fn byte(&self) -> u8 {
        self.0.borrow_mut().pop().unwrap_or(0)
    }

    pub fn word(&self) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Picks one of these values.
    pub fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }
}

/// A page of a ring. While the engine reads it, the guest may change it before every load.
#[derive(Clone)]
pub struct ChangingPage {
    words: Rc<RefCell<[u32; PAGE_WORDS]>>,
    input: Input,
    changing: Rc<Cell<bool>>,
}

impl ChangingPage {
    pub fn new(input: &Input) -> ChangingPage {
        ChangingPage {
            words: Rc::new(RefCell::new([0; PAGE_WORDS])),
            input: input.clone(),
            changing: Rc::default(),
        }
    }

    /// Sets whether the page changes while it is read.
    pub fn set_changing(&self, changing: bool) {
        self.changing.set(changing);
    }
}

impl Page for ChangingPage {
    fn load(&self, word: usize) -> u32 {
        assert!(word < PAGE_WORDS);
        let value = &mut self.words.borrow_mut()[word];
        // Mostly unchanged, so that some requests are valid.
        if self.changing.get() {
            match self.input.byte() {
                step @ 0xe0..0xf8 => *value = value.wrapping_add(u32::from(step & 0x7)),
                0xf8..0xfc => *value = value.wrapping_sub(1),
                0xfc.. => *value = self.input.word(),
                _ => {}
            }
        }
        *value
    }

    fn store(&self, word: usize, value: u32) {
        assert!(word < PAGE_WORDS);
        self.words.borrow_mut()[word] = value;
    }

    fn fence(&self) {}
}

/// The guest's memory. The number of a grant determines whether it exists; the input determines its
/// contents.
pub struct FuzzedMemory(pub Input);

/// Grants from `READ_ONLY` on are read-only, and grants from `NONE` on do not exist.
pub const READ_ONLY: u32 = 1 << 16;
pub const NONE: u32 = 1 << 17;

impl FuzzedMemory {
    fn check(pieces: &[Piece], limit: u32, ours: usize) -> Result<(), BadMemory> {
        let mut end = 0;
        for piece in pieces {
            assert!(usize::from(piece.offset) + usize::from(piece.length) <= 4096);
            assert!(piece.buffer_offset >= end, "pieces overlap");
            end = piece.buffer_offset + usize::from(piece.length);
            if piece.gref >= limit {
                return Err(BadMemory("no such grant".to_owned()));
            }
        }
        assert!(end <= ours, "outside the transfer");
        Ok(())
    }
}

impl Memory for FuzzedMemory {
    fn read(&mut self, pieces: &[Piece], into: &mut [u8]) -> Result<(), BadMemory> {
        FuzzedMemory::check(pieces, NONE, into.len())?;
        // The data may be a valid packet table: equal lengths, with or without gaps.
        let (length, step) = (u32::from(self.0.byte()), u32::from(self.0.byte()));
        for (number, row) in (0..).zip(into.chunks_mut(16)) {
            let cells = [number * step, length, self.0.byte().into(), 0].map(u32::to_le_bytes);
            row.copy_from_slice(&cells.concat()[..row.len()]);
        }
        Ok(())
    }

    fn write(&mut self, pieces: &[Piece], from: &[u8]) -> Result<(), BadMemory> {
        FuzzedMemory::check(pieces, READ_ONLY, from.len())
    }
}
