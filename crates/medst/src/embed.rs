//! Embeddings of a corpus with a trained model.
