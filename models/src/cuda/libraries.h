// The functions of CUDA's libraries that Candle and cudarc call; see libraries.c. What is not listed here is left to the loader, as
// without this file. `nm -u` on the rlibs of cudarc and candle-core, and on libmoe.a, lists what they call.

#define DRIVER(F) \
    F(cuCtxCreate_v3) F(cuCtxCreate_v4) F(cuCtxDestroy_v2) F(cuCtxGetCacheConfig) F(cuCtxGetCurrent) F(cuCtxGetLimit) \
    F(cuCtxGetStreamPriorityRange) F(cuCtxSetCacheConfig) F(cuCtxSetCurrent) F(cuCtxSetFlags) F(cuCtxSetLimit) \
    F(cuCtxSynchronize) F(cuDestroyExternalMemory) F(cuDeviceGet) F(cuDeviceGetAttribute) F(cuDeviceGetCount) \
    F(cuDeviceGetDefaultMemPool) F(cuDeviceGetMemPool) F(cuDeviceGetName) F(cuDeviceGetUuid) F(cuDeviceGetUuid_v2) \
    F(cuDevicePrimaryCtxRelease_v2) F(cuDevicePrimaryCtxRetain) F(cuDeviceSetMemPool) F(cuDeviceTotalMem_v2) \
    F(cuEventCreate) F(cuEventDestroy_v2) F(cuEventElapsedTime) F(cuEventElapsedTime_v2) F(cuEventQuery) \
    F(cuEventRecord) F(cuEventSynchronize) F(cuExternalMemoryGetMappedBuffer) F(cuFuncGetAttribute) \
    F(cuFuncSetAttribute) F(cuFuncSetCacheConfig) F(cuGetErrorName) F(cuGetErrorString) F(cuGraphClone) \
    F(cuGraphDestroy) F(cuGraphExecDestroy) F(cuGraphInstantiate) F(cuGraphInstantiateWithFlags) F(cuGraphLaunch) \
    F(cuGraphUpload) F(cuImportExternalMemory) F(cuInit) F(cuLaunchCooperativeKernel) F(cuLaunchHostFunc) \
    F(cuLaunchKernel) F(cuMemAdvise_v2) F(cuMemAllocAsync) F(cuMemAllocFromPoolAsync) F(cuMemAllocManaged) \
    F(cuMemAlloc_v2) F(cuMemFreeAsync) F(cuMemFreeHost) F(cuMemFree_v2) F(cuMemGetInfo_v2) F(cuMemHostAlloc) \
    F(cuMemPoolCreate) F(cuMemPoolDestroy) F(cuMemPoolGetAttribute) F(cuMemPoolSetAttribute) F(cuMemPoolTrimTo) \
    F(cuMemPrefetchAsync_v2) F(cuMemcpyDtoDAsync_v2) F(cuMemcpyDtoD_v2) F(cuMemcpyDtoHAsync_v2) F(cuMemcpyDtoH_v2) \
    F(cuMemcpyHtoDAsync_v2) F(cuMemcpyHtoD_v2) F(cuMemcpyPeerAsync) F(cuMemsetD8Async) F(cuMemsetD8_v2) \
    F(cuModuleGetFunction) F(cuModuleGetGlobal_v2) F(cuModuleLoad) F(cuModuleLoadData) F(cuModuleUnload) \
    F(cuOccupancyAvailableDynamicSMemPerBlock) F(cuOccupancyMaxActiveBlocksPerMultiprocessor) \
    F(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags) F(cuOccupancyMaxActiveClusters) \
    F(cuOccupancyMaxPotentialBlockSize) F(cuOccupancyMaxPotentialBlockSizeWithFlags) \
    F(cuOccupancyMaxPotentialClusterSize) F(cuProfilerStart) F(cuProfilerStop) F(cuStreamAttachMemAsync) \
    F(cuStreamBeginCapture_v2) F(cuStreamCreate) F(cuStreamCreateWithPriority) F(cuStreamDestroy_v2) \
    F(cuStreamEndCapture) F(cuStreamIsCapturing) F(cuStreamSynchronize) F(cuStreamWaitEvent)

#define CUBLAS(F) \
    F(cublasCreate_v2) F(cublasDasum_v2) F(cublasDestroy_v2) F(cublasDgemmStridedBatched) F(cublasDgemm_v2) \
    F(cublasDgemv_v2) F(cublasGemmEx) F(cublasGemmGroupedBatchedEx) F(cublasGemmStridedBatchedEx) \
    F(cublasGetPointerMode_v2) F(cublasSasum_v2) F(cublasSetPointerMode_v2) F(cublasSetStream_v2) \
    F(cublasSgemmStridedBatched) F(cublasSgemm_v2) F(cublasSgemv_v2)

#define CUBLASLT(F) \
    F(cublasLtCreate) F(cublasLtDestroy) F(cublasLtLoggerOpenFile) F(cublasLtLoggerSetLevel) F(cublasLtMatmul) \
    F(cublasLtMatmulAlgoGetHeuristic) F(cublasLtMatmulDescCreate) F(cublasLtMatmulDescDestroy) \
    F(cublasLtMatmulDescSetAttribute) F(cublasLtMatmulPreferenceCreate) F(cublasLtMatmulPreferenceDestroy) \
    F(cublasLtMatmulPreferenceSetAttribute) F(cublasLtMatrixLayoutCreate) F(cublasLtMatrixLayoutDestroy) \
    F(cublasLtMatrixLayoutSetAttribute)

#define CURAND(F) \
    F(curandCreateGenerator) F(curandDestroyGenerator) F(curandGenerate) F(curandGenerateLogNormal) \
    F(curandGenerateLogNormalDouble) F(curandGenerateLongLong) F(curandGenerateNormal) F(curandGenerateNormalDouble) \
    F(curandGeneratePoisson) F(curandGenerateUniform) F(curandGenerateUniformDouble) F(curandSetGeneratorOffset) \
    F(curandSetPseudoRandomGeneratorSeed) F(curandSetStream)

#define NVRTC(F) \
    F(nvrtcCompileProgram) F(nvrtcCreateProgram) F(nvrtcDestroyProgram) F(nvrtcGetPTX) F(nvrtcGetPTXSize) \
    F(nvrtcGetProgramLog) F(nvrtcGetProgramLogSize)

#define RUNTIME(F) \
    F(__cudaGetKernel) F(__cudaInitModule) F(__cudaLaunchKernel) F(__cudaLaunchKernel_ptsz) \
    F(__cudaPopCallConfiguration) F(__cudaPushCallConfiguration) F(__cudaRegisterFatBinary) \
    F(__cudaRegisterFatBinaryEnd) F(__cudaRegisterFunction) F(__cudaRegisterVar) F(__cudaUnregisterFatBinary) \
    F(cudaDeviceGetAttribute) F(cudaDeviceSynchronize) F(cudaFree) F(cudaFreeAsync) F(cudaFreeAsync_ptsz) \
    F(cudaFuncGetAttributes) F(cudaFuncSetAttribute) F(cudaGetDevice) F(cudaGetDeviceCount) F(cudaGetErrorName) \
    F(cudaGetErrorString) F(cudaGetLastError) F(cudaLaunchKernel) F(cudaLaunchKernelExC) F(cudaLaunchKernel_ptsz) \
    F(cudaMalloc) F(cudaMallocAsync) F(cudaMallocAsync_ptsz) F(cudaMemcpy) F(cudaMemcpyAsync) F(cudaMemcpyAsync_ptsz) \
    F(cudaMemset) F(cudaMemsetAsync) F(cudaMemsetAsync_ptsz) F(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags) \
    F(cudaPeekAtLastError) F(cudaSetDevice) F(cudaStreamSynchronize) F(cudaStreamSynchronize_ptsz)
