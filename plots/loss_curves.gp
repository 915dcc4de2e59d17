# Smoothed training loss (blocks 2i) and validation points (blocks 2i+1) of each row.
set xlabel 'Training step' textcolor rgb INK
set ylabel 'Loss (nats)' textcolor rgb INK
set xrange [0:STEPS*1.02]
set yrange [*:*] noextend
set autoscale y
set yrange [0<*:*]
set grid xtics ytics
set pointsize 1.2*POINTS
plot for [i=1:N] DATA index 2*i-2 using 1:2 with lines linecolor rgb COLOUR[i] linewidth 1.6 notitle, \
     for [i=1:N] DATA index 2*i-1 using ($1 < 0 ? NaN : $1):($1 < 0 ? NaN : $2) with points \
         linecolor rgb COLOUR[i] pointtype POINT[i] notitle
