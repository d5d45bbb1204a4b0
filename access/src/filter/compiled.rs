//! SQL filters are compiled once for all who write the same, however often they poll.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Filter, Mistake, Sql, parse};

/// The filters in use. Clones are the same.
#[derive(Clone, Debug)]
pub struct Filters {
    known: Arc<Mutex<Known>>,
    most: usize,
}

#[derive(Debug, Default)]
struct Known {
    compiled: HashMap<Box<str>, Compiled>,
    asked: u64,
}

#[derive(Debug)]
struct Compiled {
    sql: Arc<Sql>,
    last_asked: u64,
}

impl Filters {
    /// Remembers at most `most`; the one that nobody asked for the longest goes first.
    pub fn new(most: usize) -> Self {
        Self { known: Arc::default(), most }
    }

    /// A filter of type SQL.
    pub fn sql(&self, expression: &str) -> Result<Filter, Mistake> {
        let mut known = self.known.lock();
        known.asked += 1;
        let now = known.asked;
        if let Some(compiled) = known.compiled.get_mut(expression) {
            compiled.last_asked = now;
            return Ok(Filter::Sql(Arc::clone(&compiled.sql)));
        }
        drop(known);
        let sql = Arc::new(parse::sql(expression)?);
        let mut known = self.known.lock();
        if known.compiled.len() >= self.most {
            let oldest = known.compiled.iter().min_by_key(|(_, compiled)| compiled.last_asked);
            if let Some(oldest) = oldest.map(|(expression, _)| expression.clone()) {
                known.compiled.remove(&oldest);
            }
        }
        known.compiled.insert(expression.into(), Compiled { sql: Arc::clone(&sql), last_asked: now });
        Ok(Filter::Sql(sql))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.lock().compiled.len()
    }
}
