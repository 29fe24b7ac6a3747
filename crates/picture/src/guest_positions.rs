//! The positions of guests in their column. Guests are in the order of their devices, and each is
//! as near to its devices as the guests above and below allow.

/// A box in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Preference {
    /// The preferred top. `None`: no preference, so the box is placed below all others.
    pub(crate) top: Option<i32>,
    pub(crate) height: i32,
}

/// Boxes that touch and are moved together.
struct Block {
    /// The sum of the tops of this block that its boxes prefer.
    sum: i64,
    boxes: i64,
    height: i32,
}

impl Block {
    /// The top that is best for its boxes on average.
    fn top(&self, least: i32) -> i32 {
        let mean = self.sum / self.boxes.max(1);
        i32::try_from(mean).unwrap_or(i32::MAX / 2).max(least)
    }
}

/// The tops of the boxes, in the order of `wanted`. The boxes are at least `gap` pixels apart, and
/// none is above `least`. From top to bottom they are in the order of their preferred tops. For
/// this order, the sum of the squared distances from the preferred tops is minimal (by pooling
/// adjacent violators).
pub(crate) fn place(wanted: &[Preference], least: i32, gap: i32) -> Vec<i32> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    // The sort is stable: boxes that prefer the same top stay in their order.
    order.sort_by_key(|&it| wanted.get(it).and_then(|it| it.top).unwrap_or(i32::MAX));
    let mut blocks: Vec<Block> = Vec::new();
    for &number in &order {
        let Some(it) = wanted.get(number) else { continue };
        let end = blocks.last().map_or(least, |it| it.top(least) + it.height);
        let top = i64::from(it.top.unwrap_or(end));
        let mut block = Block { sum: top, boxes: 1, height: it.height + gap };
        while let Some(above) = blocks.pop() {
            if above.top(least) + above.height <= block.top(least) {
                blocks.push(above);
                break;
            }
            // Each box of the lower block is `above.height` below the top of both.
            block = Block {
                sum: above.sum + block.sum - block.boxes * i64::from(above.height),
                boxes: above.boxes + block.boxes,
                height: above.height + block.height,
            };
        }
        blocks.push(block);
    }
    let mut tops = vec![least; wanted.len()];
    let mut numbers = order.into_iter();
    for block in blocks {
        let mut y = block.top(least);
        for _ in 0..block.boxes {
            let Some(number) = numbers.next() else { break };
            if let Some(top) = tops.get_mut(number) {
                *top = y;
            }
            y += wanted.get(number).map_or(0, |it| it.height) + gap;
        }
    }
    tops
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(wanted: &[(Option<i32>, i32)]) -> Vec<i32> {
        let all: Vec<Preference> =
            wanted.iter().map(|&(top, height)| Preference { top, height }).collect();
        place(&all, 0, 10)
    }

    #[test]
    fn boxes_that_do_not_touch_have_their_preferred_tops() {
        assert_eq!(placed(&[(Some(200), 50), (Some(0), 50)]), [200, 0]);
    }

    #[test]
    fn boxes_that_prefer_the_same_top_share_the_distance() {
        assert_eq!(placed(&[(Some(100), 40), (Some(100), 40)]), [75, 125]);
        assert_eq!(placed(&[(Some(0), 40), (Some(0), 40)]), [0, 50]);
    }

    #[test]
    fn boxes_without_a_preference_are_below() {
        assert_eq!(placed(&[(None, 40), (Some(300), 40), (None, 40)]), [350, 300, 400]);
    }
}
