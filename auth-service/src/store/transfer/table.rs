//! One table on either side.

use ring::digest;

use crate::domain::hex;
use crate::store::StoreError;
use crate::store::engine::database::Transaction;
use crate::store::engine::row::{Argument, Row, only};

/// Rows that are read together to be digested.
const DIGEST_PAGE: usize = 5_000;

/// A table as the source describes it. Both sides have the same migrations, so it fits both.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: Vec<Column>,
    /// Places of the primary key's columns, in its order.
    pub(super) key: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) is_text: bool,
}

/// The values of a row, or of its primary key.
pub(super) type Values = Vec<Argument>;

impl Table {
    /// The next rows after a key, in the order of the database that is read.
    pub(super) async fn page(
        &self,
        tx: &mut Transaction,
        after: Option<&Values>,
        rows: usize,
    ) -> Result<Vec<Values>, StoreError> {
        let (columns, key) = (self.column_list(), self.key_list());
        let placeholders: Vec<String> = (1..=self.key.len()).map(|place| format!("${place}")).collect();
        let from_there =
            after.map_or_else(String::new, |_| format!("WHERE ({key}) > ({})", placeholders.join(", ")));
        let sql = format!("SELECT {columns} FROM {} {from_there} ORDER BY {key} LIMIT {rows}", self.name);
        let rows = tx.fetch(&sql, after.cloned().unwrap_or_default()).await?;
        rows.iter().map(|row| self.values(row)).collect()
    }

    /// The key of the first row in an order.
    pub(super) async fn first_key(
        &self,
        tx: &mut Transaction,
        order: &str,
    ) -> Result<Option<Values>, StoreError> {
        let sql = format!("SELECT {} FROM {} ORDER BY {order} LIMIT 1", self.column_list(), self.name);
        let row = tx.first(&sql, Vec::new()).await?;
        row.map(|row| Ok(self.key_of(&self.values(&row)?))).transpose()
    }

    /// How many rows there are.
    pub(super) async fn count(&self, tx: &mut Transaction) -> Result<u64, StoreError> {
        let sql = format!("SELECT COUNT(*) AS rows FROM {}", self.name);
        let count = only(tx.fetch(&sql, Vec::new()).await?, self.name)?.int("rows")?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    pub(super) fn key_of(&self, row: &Values) -> Values {
        self.key.iter().map(|&place| row[place].clone()).collect()
    }

    /// `(…), (…)` for so many rows of arguments.
    pub(super) fn placeholders(&self, rows: usize) -> String {
        let width = self.columns.len();
        let row = |row: usize| {
            let places: Vec<String> =
                (1..=width).map(|column| format!("${}", row * width + column)).collect();
            format!("({})", places.join(", "))
        };
        (0..rows).map(row).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn column_list(&self) -> String {
        self.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn key_list(&self) -> String {
        self.key.iter().map(|&place| self.columns[place].name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Counts and digests all rows. Their order does not matter: databases sort text differently.
    pub(super) async fn digest(&self, tx: &mut Transaction) -> Result<Digest, StoreError> {
        let (mut digest, mut last) = (Digest::default(), None);
        loop {
            let page = self.page(tx, last.as_ref(), DIGEST_PAGE).await?;
            let Some(end) = page.last() else { return Ok(digest) };
            last = Some(self.key_of(end));
            for row in &page {
                digest.add(row);
            }
        }
    }

    /// The values of a row that was selected with [`column_list`](Self::column_list).
    fn values(&self, row: &Row) -> Result<Values, StoreError> {
        let value = |Column { name, is_text }: &Column| {
            Ok(if *is_text {
                Argument::Text(row.text_if_any(name)?)
            } else {
                Argument::Int(row.int_if_any(name)?)
            })
        };
        self.columns.iter().map(value).collect()
    }
}

/// How many rows there are, and the sum of their hashes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Digest {
    pub(super) rows: u64,
    sum: u128,
}

impl Digest {
    /// Each value is preceded by its kind and length, so that no two rows give the same bytes.
    fn add(&mut self, row: &Values) {
        let mut context = digest::Context::new(&digest::SHA256);
        for value in row {
            match value {
                Argument::Int(Some(number)) => {
                    context.update(b"i");
                    context.update(&number.to_be_bytes());
                }
                Argument::Text(Some(text)) => {
                    context.update(b"t");
                    context.update(&(text.len() as u64).to_be_bytes());
                    context.update(text.as_bytes());
                }
                Argument::Int(None) | Argument::Text(None) => context.update(b"n"),
            }
        }
        let hash = context.finish();
        let (half, _) = hash.as_ref().split_first_chunk().expect("SHA-256 has 32 bytes");
        self.rows += 1;
        self.sum = self.sum.wrapping_add(u128::from_be_bytes(*half));
    }

    pub(super) fn checksum(&self) -> String {
        hex(&self.sum.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(rows: &[[Argument; 2]]) -> Digest {
        let mut digest = Digest::default();
        for row in rows {
            digest.add(&row.to_vec());
        }
        digest
    }

    #[test]
    fn digest_does_not_depend_on_the_order_of_rows_and_sees_every_difference() {
        let row = |text: &str, number| [Argument::from(text), Argument::Int(number)];
        let rows = [row("a", Some(1)), row("b", None), row("", Some(0))];
        let mut turned = rows.clone();
        turned.reverse();
        assert_eq!(digest(&rows), digest(&turned));
        for (place, other) in
            [row("a", Some(2)), row("b", Some(0)), row("\0", Some(0))].into_iter().enumerate()
        {
            let mut changed = rows.clone();
            changed[place] = other;
            assert_ne!(digest(&rows), digest(&changed), "row {place}");
        }
        assert_ne!(digest(&rows), digest(&rows[..2]));
    }
}
