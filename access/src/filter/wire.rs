//! The filter that a client names.

use proto::v2::{Code, FilterExpression, FilterType};

use super::{Filter, Filters, Mistake};
use crate::status::Refusal;

impl Filters {
    /// A filter of type TAG, which is what an unspecified type means, or SQL; nothing named is all.
    pub fn of(&self, named: Option<&FilterExpression>) -> Result<Filter, Refusal> {
        let Some(FilterExpression { r#type, expression }) = named else { return Ok(Filter::All) };
        let illegal = |mistake: Mistake| Refusal::new(Code::IllegalFilterExpression, mistake.to_string());
        match FilterType::try_from(*r#type) {
            Ok(FilterType::Tag | FilterType::Unspecified) => Filter::tags(expression).map_err(illegal),
            Ok(FilterType::Sql) => self.sql(expression).map_err(illegal),
            Err(_) => Err(Refusal::new(
                Code::IllegalFilterExpression,
                format!("the filter type {} is unknown: use TAG or SQL", r#type),
            )),
        }
    }
}
