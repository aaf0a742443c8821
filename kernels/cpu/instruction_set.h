// The body of a unit: the whole training loop, compiled for one instruction set into a namespace of its own. The unit
// says VECTOR_BYTES and ROWS, the rows of a tile that fit into the vector registers. Nothing here includes the
// standard library, whose inline functions the linker shares among units.
#include "vector.h"
// The order matters: each uses what stands above it.
#include "elementary.h"
#include "product.h"
#include "zeros.h"
#include "layers.h"
#include "rules.h"
#include "denormals.h"
#include "share.h"
#include "train.h"
