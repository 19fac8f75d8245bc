" Type "f(" with the plug-in of $NEOX_PLUGIN (llama.vim), accept its completion by Tab, and write the buffer to $NEOX_ANSWER.
let g:llama_config = {'endpoint_fim': $NEOX_ENDPOINT, 'api_key': '', 'show_info': 0}
let &runtimepath = $NEOX_PLUGIN . ',' . &runtimepath
runtime plugin/llama.vim
call llama#init()

function! Accept(timer)
  if getline(1) !=# 'f('
    call writefile([json_encode(getline(1, '$'))], $NEOX_ANSWER)
    qa!
  endif
  call feedkeys("\<Tab>", 't')
endfunction

function! Wait(timer)
  if !empty(g:cache_data)
    call timer_stop(a:timer)
    call timer_start(100, 'Accept', {'repeat': -1})
  endif
endfunction

call feedkeys("if(", 't')
call timer_start(50, 'Wait', {'repeat': -1})
