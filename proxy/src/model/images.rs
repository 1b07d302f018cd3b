//! The images of a request. They count by rule and not by the bytes of their files, so only what stands where an image
//! may stand is one: the shape of the request says where. What merely looks like an image, in the input of a tool or in a
//! schema, reaches the model as text.

/// Images of a body, and the bytes that their files take in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Images {
    /// How many.
    pub number: u64,
    /// Bytes of the body that are not text.
    pub bytes: u64,
}

impl Images {
    /// One more. What is not base64 is no file: its bytes go on counting as text.
    pub fn add(&mut self, file: &str) {
        self.number = self.number.saturating_add(1);
        if is_base64(file) {
            let bytes = u64::try_from(file.len()).unwrap_or(u64::MAX);
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }
}

/// The file of an image that is given as a `data:` URL.
pub fn file_of(url: &str) -> Option<&str> {
    let (head, file) = url.split_once(',')?;
    let head = head.to_ascii_lowercase();
    let kind = head.strip_prefix("data:image/")?.strip_suffix(";base64")?;
    matches!(kind, "png" | "jpeg" | "jpg" | "gif" | "webp").then_some(file)
}

fn is_base64(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
}
