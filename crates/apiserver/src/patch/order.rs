//! The order of a merged list: wanted items in the order they were asked for, the others where they are.

use std::collections::{BTreeMap, VecDeque};

/// Orders `items` (key and value, in the order of the stored list, new ones last) by `wanted` keys.
///
/// Items that nobody asked to order keep their place between those before and after them; each place of
/// an ordered item is taken by the next wanted one, and new items follow the wanted item before them.
pub(super) fn arrange<T>(items: Vec<(String, T)>, stored: usize, wanted: &[String]) -> Vec<T> {
    let position: BTreeMap<&str, usize> = wanted.iter().enumerate().map(|(i, k)| (k.as_str(), i)).collect();
    let mut held: Vec<Option<T>> = Vec::with_capacity(items.len());
    let mut ranked: BTreeMap<usize, VecDeque<usize>> = BTreeMap::new();
    let mut is_ranked = Vec::with_capacity(items.len());
    for (index, (key, value)) in items.into_iter().enumerate() {
        let rank = position.get(key.as_str()).copied();
        if let Some(rank) = rank {
            ranked.entry(rank).or_default().push_back(index);
        }
        is_ranked.push(rank.is_some());
        held.push(Some(value));
    }
    let mut queue: VecDeque<usize> = ranked.into_values().flatten().collect();
    let mut order = Vec::with_capacity(held.len());
    for (index, ranked) in is_ranked.into_iter().enumerate() {
        if !ranked {
            order.push(index);
        } else if index < stored {
            // One stored place: the wanted items up to and with the next stored one go here.
            while let Some(next) = queue.pop_front() {
                order.push(next);
                if next < stored {
                    break;
                }
            }
        }
    }
    order.extend(queue);
    order.into_iter().filter_map(|index| held[index].take()).collect()
}

#[cfg(test)]
mod tests {
    use super::arrange;

    #[test]
    fn wanted_items_take_the_places_of_wanted_items() {
        let cases = [
            // stored, new, wanted, result
            ("abc", "", "cba", "cba"),
            ("abc", "", "ca", "cba"),
            ("abc", "d", "adbc", "adbc"),
            ("axb", "c", "bac", "bxac"),
            ("", "ba", "ab", "ab"),
            ("ab", "", "", "ab"),
        ];
        for (stored, new, wanted, result) in cases {
            let items = stored.chars().chain(new.chars()).map(|c| (c.to_string(), c)).collect();
            let wanted: Vec<String> = wanted.chars().map(|c| c.to_string()).collect();
            let arranged: String = arrange(items, stored.len(), &wanted).into_iter().collect();
            assert_eq!(arranged, result, "{stored} + {new} by {wanted:?}");
        }
    }
}
