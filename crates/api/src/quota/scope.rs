//! Scopes: which objects a quota counts.

use crate::tree;
use serde_json::Value;
use smol_str::SmolStr;

/// How a scope's values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// One of the values.
    In,
    /// None of the values.
    NotIn,
    /// There is a value.
    Exists,
    /// There is none.
    DoesNotExist,
}

/// One scope of a quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// `BestEffort`, `PriorityClass`, ...
    pub name: SmolStr,
    /// How.
    pub operator: Operator,
    /// With what.
    pub values: Vec<SmolStr>,
}

impl Scope {
    /// A scope without values.
    pub fn exists(name: &str) -> Self {
        Self { name: name.into(), operator: Operator::Exists, values: Vec::new() }
    }
    /// One of a scope selector's expressions.
    pub fn of(expression: &Value) -> Self {
        let operator = match tree::text(expression, "operator") {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => Operator::Exists,
        };
        let values = tree::list(expression, "values").iter().filter_map(Value::as_str).map(SmolStr::new).collect();
        Self { name: tree::text(expression, "scopeName").into(), operator, values }
    }
    /// Does a value (empty: none) satisfy the operator?
    pub fn admits(&self, value: &str) -> bool {
        let listed = self.values.iter().any(|v| v == value);
        match self.operator {
            Operator::Exists => !value.is_empty(),
            Operator::DoesNotExist => value.is_empty(),
            Operator::In => !value.is_empty() && listed,
            Operator::NotIn => !listed,
        }
    }
}
