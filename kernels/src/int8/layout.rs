//! Matrices of small elements turned over: channels first to channels last, and back.

/// Elements in a tile, in each direction.
const TILE: usize = 16;

/// Writes the `rows x columns` matrix `from` as the `columns x rows` matrix `to`.
pub fn transpose<T: Copy>(from: &[T], rows: usize, columns: usize, to: &mut [T]) {
    if rows <= 1 || columns <= 1 {
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
        return;
    }
    for first_row in (0..rows).step_by(TILE) {
        let last_row = (first_row + TILE).min(rows);
        for first_column in (0..columns).step_by(TILE) {
            let last_column = (first_column + TILE).min(columns);
            for column in first_column..last_column {
                let line = to.get_mut(column * rows + first_row..column * rows + last_row);
                let from = from.get(first_row * columns + column..).unwrap_or_default();
                let Some(line) = line else { return };
                for (to, from) in line.iter_mut().zip(from.iter().step_by(columns)) {
                    *to = *from;
                }
            }
        }
    }
}
