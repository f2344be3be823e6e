//! The session that everybody keeps: a user, roles, a token, and some short strings.

use serde::{Deserialize, Serialize};
use std::hint::black_box;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shop {
    pub user: Option<User>,
    pub roles: Vec<String>,
    pub token: String,
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct User {
    pub id: u64,
    pub name: String,
}

/// How many short strings, and how many bytes of postcard that makes.
pub const SIZES: [(usize, usize); 3] = [(0, 76), (20, 416), (90, 1606)];

impl Shop {
    pub fn with_notes(notes: usize) -> Shop {
        Shop {
            user: Some(User { id: 4_000_000_000, name: "Ada, Lady Byron!".to_owned() }),
            roles: vec!["customer".to_owned(), "reviewer".to_owned()],
            token: "0123456789abcdef0123456789abcdef".to_owned(),
            notes: (0..notes).map(|note| format!("note number {note:04}")).collect(),
        }
    }

    /// What a handler does that reads. The assertions are cheap, and the same for all.
    pub fn look(&self, notes: usize) {
        assert_eq!(self.notes.len(), notes);
        assert!(black_box(self).user.is_some());
    }

    /// What a handler does that writes.
    pub fn touch(&mut self) {
        if let Some(user) = &mut self.user {
            user.id += 1;
        }
    }
}
