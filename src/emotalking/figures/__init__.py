"""The paper's figures of an avatar: attention, normals, layers, emotions, and comparisons with other systems."""
