//! Datasets: the items that lists are made of.

use crate::template::Template;
use crate::yaml::{Node, Problems};

pub struct Dataset {
    /// How many items are generated; `None` for a written list.
    pub count: Option<Template>,
    pub item: Option<Template>,
    pub items: Option<Template>,
    /// The moods `empty` and `many` do not change it.
    pub fixed: bool,
}

impl Dataset {
    pub fn parse(node: &Node<'_>, problems: &mut Problems) -> Option<Dataset> {
        let mut fields = node.fields(problems)?;
        let count = fields.get("count").map(|node| Template::new(&node, problems));
        let item = fields.get("item").map(|node| Template::new(&node, problems));
        let items = fields.get("items").map(|node| Template::new(&node, problems));
        let fixed = fields.flag("fixed", problems);
        fields.finish(problems);
        if item.is_some() == items.is_some() || items.is_some() && count.is_some() {
            problems.add(&node.pointer, "a dataset has either count and item, or items");
        }
        Some(Dataset { count, item, items, fixed })
    }
}
