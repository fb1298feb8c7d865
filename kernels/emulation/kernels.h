// All kernels.
#pragma once
#include "../prims.cuh"
#include "../conv.cu"
#include "../depthwise.cu"
#include "../elementwise.cu"
#include "../norm.cu"
#include "../pool.cu"
#include "../attention.cu"
#include "../pixels.cu"
#include "../heads.cu"
