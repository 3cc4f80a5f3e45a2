//! Importers: from what researchers have to a corpus.
