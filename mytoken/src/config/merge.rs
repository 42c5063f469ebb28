// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts the tables of a configuration file and its drop-ins together.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// Puts the later table `from` over `into`, as `read` says.
pub(super) fn merge<'a>(into: &mut DeTable<'a>, from: DeTable<'a>) {
    for (key, mut value) in from {
        let mut old = into.get_mut(key.get_ref().as_ref());
        if let Some(old) = &mut old {
            if is_list_of_tables(old) && value.get_ref().is_table() {
                make_list(&mut value);
            } else if old.get_ref().is_table() && is_list_of_tables(&value) {
                make_list(old);
            }
        }
        match (old.map(Spanned::get_mut), value.get_ref()) {
            (Some(DeValue::Table(old)), DeValue::Table(_)) => {
                if let DeValue::Table(new) = value.into_inner() {
                    merge(old, new);
                }
            }
            (Some(DeValue::Array(old)), DeValue::Array(new)) if all_tables(new) && all_tables(old) => {
                if let DeValue::Array(new) = value.into_inner() {
                    new.into_iter().for_each(|table| old.push(table));
                }
            }
            _ => {
                into.insert(key, value);
            }
        }
    }
}

fn is_list_of_tables(value: &Spanned<DeValue<'_>>) -> bool {
    matches!(value.get_ref(), DeValue::Array(values) if !values.is_empty() && all_tables(values))
}

/// Makes the value a list of one.
fn make_list(value: &mut Spanned<DeValue<'_>>) {
    let span = value.span();
    let mut list = DeArray::new();
    list.push(Spanned::new(span, std::mem::replace(value.get_mut(), DeValue::Boolean(false))));
    *value.get_mut() = DeValue::Array(list);
}

fn all_tables(values: &[Spanned<DeValue<'_>>]) -> bool {
    values.iter().all(|value| value.get_ref().is_table())
}
