//! What a filter sees at each place of the output, as rows of a matrix.

use tract_onnx::tract_hir::internal::TractResult;

use super::super::super::image::geometry::Window;

/// How many numbers are laid out before they are multiplied: what a first-level cache holds twice.
const NUMBERS: usize = 1 << 15;

/// How many sums are computed before they are made what leaves.
const SUMS: usize = 1 << 14;

/// Lays patches of one image out, row by row.
#[derive(Debug)]
pub(super) struct Patches<'a> {
    window: &'a Window,
    /// Channels of the image.
    all: usize,
    /// Those that are read.
    first: usize,
    channels: usize,
    /// What padding holds.
    zero: i8,
    rows: Vec<i8>,
}

impl<'a> Patches<'a> {
    pub(super) fn new(window: &'a Window, channels: usize, zero: i32) -> Self {
        Self {
            window,
            all: channels,
            first: 0,
            channels,
            zero: i8::try_from(zero).unwrap_or_default(),
            rows: Vec::new(),
        }
    }

    /// Reads only `channels` channels, from `first` on.
    pub(super) fn read(&mut self, first: usize, channels: usize) {
        (self.first, self.channels) = (first, channels);
    }

    /// The most rows that [`Patches::each`] gives at once, where each gets `columns` sums.
    pub(super) fn most_rows(&self, columns: usize) -> usize {
        let depth = (self.window.taps() * self.channels).max(1);
        let most = (NUMBERS / depth).min(SUMS / columns.max(1)).clamp(32, 4096);
        most - most % 16
    }

    /// Calls `use_rows` with some rows at a time, in the order of the output's places.
    pub(super) fn each(
        &mut self,
        image: &[i8],
        columns: usize,
        mut use_rows: impl FnMut(&[i8]) -> TractResult<()>,
    ) -> TractResult<()> {
        let most = self.most_rows(columns);
        if self.window.is_one_pixel() && self.channels == self.all {
            for rows in image.chunks((most * self.channels).max(1)) {
                use_rows(rows)?;
            }
            return Ok(());
        }
        let depth = self.window.taps() * self.channels;
        let mut rows = std::mem::take(&mut self.rows);
        rows.reserve(most * depth);
        let [height, width] = self.window.output;
        for row in 0..height {
            for column in 0..width {
                self.patch(image, [row, column], &mut rows);
                if rows.len() >= most * depth {
                    use_rows(&rows)?;
                    rows.clear();
                }
            }
        }
        if !rows.is_empty() {
            use_rows(&rows)?;
            rows.clear();
        }
        self.rows = rows;
        Ok(())
    }

    /// Adds the patch of one place.
    fn patch(&self, image: &[i8], place: [usize; 2], rows: &mut Vec<i8>) {
        if let ([_, 1], true) = (self.window.dilations, self.channels == self.all) {
            self.lines(image, place, rows);
            return;
        }
        for pixel in self.window.pixels(place) {
            let start = pixel.map(|pixel| pixel * self.all + self.first);
            let numbers = start.and_then(|start| image.get(start..start + self.channels));
            match numbers {
                Some(numbers) => rows.extend_from_slice(numbers),
                None => self.padding(1, rows),
            }
        }
    }

    /// Adds the patch of one place, of pixels that lie side by side with all their channels.
    fn lines(&self, image: &[i8], [row, column]: [usize; 2], rows: &mut Vec<i8>) {
        let [height, width] = self.window.kernel;
        let ([_, stride], [_, before], [_, line]) =
            (self.window.strides, self.window.before, self.window.image);
        let start = column * stride;
        // Columns of the window that fall before the image, on it, and behind it.
        let left = before.saturating_sub(start).min(width);
        let right = (start + width)
            .saturating_sub(before + line)
            .min(width - left);
        let inside = width - left - right;
        for down in 0..height {
            let Some(row) = self.window.row(row, down).filter(|_| inside > 0) else {
                self.padding(width, rows);
                continue;
            };
            self.padding(left, rows);
            let first = (row * line + start + left - before) * self.all;
            let pixels = image.get(first..first + inside * self.all);
            rows.extend_from_slice(pixels.unwrap_or_default());
            self.padding(right, rows);
        }
    }

    fn padding(&self, pixels: usize, rows: &mut Vec<i8>) {
        rows.resize(rows.len() + pixels * self.channels, self.zero);
    }
}
