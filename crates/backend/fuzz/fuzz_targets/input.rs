//! The input, a byte at a time, and what is made of it: pages that change while they are read, and memory that lies.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use vusb_backend::engine::{BadMemory, Memory, Piece};
use vusb_usbif::{PAGE_WORDS, Page};

/// The input; zeros when it is used up. A clone is the same.
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

    /// One of these.
    pub fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }
}

/// A page of a ring. While the engine reads it, the guest may change it before every load.
#[derive(Clone)]
pub struct WildPage {
    words: Rc<RefCell<[u32; PAGE_WORDS]>>,
    input: Input,
    wild: Rc<Cell<bool>>,
}

impl WildPage {
    pub fn new(input: &Input) -> WildPage {
        WildPage {
            words: Rc::new(RefCell::new([0; PAGE_WORDS])),
            input: input.clone(),
            wild: Rc::default(),
        }
    }

    /// Whether it changes by itself from now on.
    pub fn set_wild(&self, wild: bool) {
        self.wild.set(wild);
    }
}

impl Page for WildPage {
    fn load(&self, word: usize) -> u32 {
        assert!(word < PAGE_WORDS);
        let value = &mut self.words.borrow_mut()[word];
        // Mostly as it was, so that something sensible is found at all.
        if self.wild.get() {
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

/// The guest's memory. A grant's number says whether it is one; what is read from it, the input says.
pub struct LooseMemory(pub Input);

/// Grants from here on are for reading only, and from the second on none at all.
pub const READ_ONLY: u32 = 1 << 16;
pub const NONE: u32 = 1 << 17;

impl LooseMemory {
    fn check(pieces: &[Piece], limit: u32, ours: usize) -> Result<(), BadMemory> {
        let mut end = 0;
        for piece in pieces {
            assert!(usize::from(piece.offset) + usize::from(piece.length) <= 4096);
            assert!(piece.at >= end, "pieces overlap");
            end = piece.at + usize::from(piece.length);
            if piece.gref >= limit {
                return Err(BadMemory("no such grant".to_owned()));
            }
        }
        assert!(end <= ours, "outside of the transfer");
        Ok(())
    }
}

impl Memory for LooseMemory {
    fn read(&mut self, pieces: &[Piece], into: &mut [u8]) -> Result<(), BadMemory> {
        LooseMemory::check(pieces, NONE, into.len())?;
        // As a table of packets it may make sense: so many bytes each, with or without a gap.
        let (length, step) = (u32::from(self.0.byte()), u32::from(self.0.byte()));
        for (number, row) in (0..).zip(into.chunks_mut(16)) {
            let cells = [number * step, length, self.0.byte().into(), 0].map(u32::to_le_bytes);
            row.copy_from_slice(&cells.concat()[..row.len()]);
        }
        Ok(())
    }

    fn write(&mut self, pieces: &[Piece], from: &[u8]) -> Result<(), BadMemory> {
        LooseMemory::check(pieces, READ_ONLY, from.len())
    }
}
